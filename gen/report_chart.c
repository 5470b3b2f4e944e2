/*
 * report_chart.c: charts as SVG text. Each is a picture of its own, of fixed size; colours are told apart in grey too, by
 * their order of brightness. See report.h.
 */
#include "report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define WIDTH 680.0
#define HEIGHT 360.0
#define LEFT 70.0
#define RIGHT 190.0 /* for the legend */
#define TOP 36.0
#define BOTTOM 44.0

static const char *const colors[] = {"#1b3a5b", "#c2571a", "#2f7d4f", "#7a4a9e", "#b8901f",
                                     "#2a87a8", "#a83256", "#6b6b6b", "#4f6d2a", "#d98a5f"};
#define COLORS (sizeof colors / sizeof *colors)

void report_escape(struct tamisi_buf *out, const char *text)
{
    for (; *text; text++) {
        const char *named = *text == '<'   ? "&lt;"
                            : *text == '>' ? "&gt;"
                            : *text == '&' ? "&amp;"
                            : *text == '"' ? "&quot;"
                                           : NULL;
        if (named) tamisi_buf_puts(out, named);
        else tamisi_buf_append(out, text, 1);
    }
}

/* ---- parts of pictures */

static void open_picture(struct tamisi_buf *out, const char *title, double width, double height)
{
    tamisi_buf_printf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%g\" height=\"%g\" viewBox=\"0 0 %g %g\" "
                           "role=\"img\">\n<title>", width, height, width, height);
    report_escape(out, title);
    tamisi_buf_printf(out, "</title>\n<rect width=\"%g\" height=\"%g\" fill=\"#ffffff\"/>\n", width, height);
}

static void put_text(struct tamisi_buf *out, double x, double y, const char *anchor, int size, const char *text)
{
    tamisi_buf_printf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"%s\" font-size=\"%d\" font-family=\"sans-serif\" "
                           "fill=\"#222222\">", x, y, anchor, size);
    report_escape(out, text);
    tamisi_buf_puts(out, "</text>\n");
}

static void put_line(struct tamisi_buf *out, double x1, double y1, double x2, double y2, const char *color)
{
    tamisi_buf_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\"/>\n", x1, y1, x2, y2, color);
}

static void put_legend(struct tamisi_buf *out, double x, double y, size_t color, const char *name)
{
    tamisi_buf_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, y - 10,
                      colors[color % COLORS]);
    put_text(out, x + 18, y, "start", 12, name);
}

/* 8192: "8K"; 1000: "1000". */
static void format_tokens(char out[24], double tokens)
{
    const long long whole = (long long)(tokens + 0.5);
    if (whole >= 1024 && whole % 1024 == 0) snprintf(out, 24, "%lldK", whole / 1024);
    else snprintf(out, 24, "%lld", whole);
}

/* ---- lines over lengths */

void report_chart_add(struct report_chart *chart, const char *series, double x, double y)
{
    int at = 0;
    while (at < chart->series_count && strcmp(chart->series[at].name, series) != 0) at++;
    if (at == REPORT_SERIES) return;
    if (at == chart->series_count) {
        snprintf(chart->series[at].name, sizeof chart->series[at].name, "%s", series);
        chart->series_count++;
    }
    const int point = chart->series[at].count;
    if (point == REPORT_POINTS) return;
    chart->series[at].points[point].x = x;
    chart->series[at].points[point].y = y;
    chart->series[at].count++;
}

struct frame {
    double x_low, x_high, y_low, y_high;
    bool log_y;
};

static double share(double value, double low, double high) { return high > low ? (value - low) / (high - low) : 0.5; }

static double place_x(const struct frame *frame, double x)
{
    return LEFT + (WIDTH - LEFT - RIGHT) * (0.03 + 0.94 * share(log2(x), log2(frame->x_low), log2(frame->x_high)));
}

static double place_y(const struct frame *frame, double y)
{
    const double part = frame->log_y ? share(log10(y), log10(frame->y_low), log10(frame->y_high))
                                     : share(y, frame->y_low, frame->y_high);
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part;
}

/* False: there is nothing to show. */
static bool find_frame(struct frame *frame, const struct report_chart *chart)
{
    bool any = false;
    *frame = (struct frame){INFINITY, 0, INFINITY, 0, chart->log_y};
    for (int s = 0; s < chart->series_count; s++)
        for (int i = 0; i < chart->series[s].count; i++) {
            frame->x_low = fmin(frame->x_low, chart->series[s].points[i].x);
            frame->x_high = fmax(frame->x_high, chart->series[s].points[i].x);
            frame->y_low = fmin(frame->y_low, chart->series[s].points[i].y);
            frame->y_high = fmax(frame->y_high, chart->series[s].points[i].y);
            any = true;
        }
    if (!chart->log_y) frame->y_low = 0;
    frame->y_high *= 1.08;
    if (chart->log_y) frame->y_low /= 1.15;
    return any && frame->x_low > 0 && frame->y_high > 0 && (!chart->log_y || frame->y_low > 0);
}

static void tick_y(struct tamisi_buf *out, const struct frame *frame, double value)
{
    char text[32];
    if (value < frame->y_low || value > frame->y_high) return;
    snprintf(text, sizeof text, "%g", value);
    put_line(out, LEFT, place_y(frame, value), WIDTH - RIGHT, place_y(frame, value), "#e3e3e3");
    put_text(out, LEFT - 8, place_y(frame, value) + 4, "end", 11, text);
}

static void write_ticks(struct tamisi_buf *out, const struct frame *frame, const struct report_chart *chart)
{
    const double decade = pow(10, floor(log10(frame->y_high)));
    const double step = frame->y_high / decade > 5 ? decade : frame->y_high / decade > 2 ? decade / 2 : decade / 5;
    if (frame->log_y) {
        for (double unit = pow(10, floor(log10(frame->y_low))); unit <= frame->y_high; unit *= 10)
            for (int i = 0; i < 3; i++) tick_y(out, frame, unit * (i == 0 ? 1 : i == 1 ? 2 : 5));
    } else
        for (int i = 0; i * step <= frame->y_high; i++) tick_y(out, frame, i * step);
    for (int s = 0; s < chart->series_count; s++) /* of several series the same lengths fall on each other */
        for (int i = 0; i < chart->series[s].count; i++) {
            char text[24];
            const double x = chart->series[s].points[i].x;
            bool seen = false;
            for (int t = 0; t < s; t++)
                for (int j = 0; j < chart->series[t].count; j++) seen = seen || chart->series[t].points[j].x == x;
            if (seen) continue;
            format_tokens(text, x);
            put_line(out, place_x(frame, x), TOP, place_x(frame, x), HEIGHT - BOTTOM, "#f0f0f0");
            put_text(out, place_x(frame, x), HEIGHT - BOTTOM + 16, "middle", 11, text);
        }
}

static void write_series(struct tamisi_buf *out, const struct frame *frame, const struct report_chart *chart, int s)
{
    const char *color = colors[(size_t)s % COLORS];
    tamisi_buf_printf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", color);
    for (int i = 0; i < chart->series[s].count; i++)
        tamisi_buf_printf(out, "%s%.1f,%.1f", i ? " " : "", place_x(frame, chart->series[s].points[i].x),
                          place_y(frame, chart->series[s].points[i].y));
    tamisi_buf_puts(out, "\"/>\n");
    for (int i = 0; i < chart->series[s].count; i++)
        tamisi_buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"><title>%g</title></circle>\n",
                          place_x(frame, chart->series[s].points[i].x), place_y(frame, chart->series[s].points[i].y), color,
                          chart->series[s].points[i].y);
    put_legend(out, WIDTH - RIGHT + 18, TOP + 16 + 20 * s, (size_t)s, chart->series[s].name);
}

void report_chart_write(struct tamisi_buf *out, const struct report_chart *chart)
{
    struct frame frame;
    char title[160];
    if (!find_frame(&frame, chart)) return;
    open_picture(out, chart->title, WIDTH, HEIGHT);
    snprintf(title, sizeof title, "%s, %s", chart->title, chart->y_label);
    put_text(out, LEFT, 20, "start", 14, title);
    write_ticks(out, &frame, chart);
    put_line(out, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, "#555555");
    put_line(out, LEFT, TOP, LEFT, HEIGHT - BOTTOM, "#555555");
    put_text(out, (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", 12, "tokens");
    for (int s = 0; s < chart->series_count; s++) write_series(out, &frame, chart, s);
    tamisi_buf_puts(out, "</svg>\n");
}

/* ---- bars */

#define BAR_LEFT 150.0
#define BAR_WIDTH 360.0
#define BAR_STEP 24.0

void report_bars_write(struct tamisi_buf *out, const struct report_bars *bars)
{
    const double height = TOP + BAR_STEP * bars->bar_count + 16;
    if (bars->bar_count == 0) return;
    open_picture(out, bars->title, WIDTH, height < 150 ? 150 : height);
    put_text(out, 10, 20, "start", 14, bars->title);
    for (int b = 0; b < bars->bar_count; b++) {
        const double y = TOP + BAR_STEP * b;
        double sum = 0, x = BAR_LEFT;
        char total[32];
        for (int p = 0; bars->parts[p]; p++) sum += bars->bars[b].parts[p];
        put_text(out, BAR_LEFT - 8, y + 13, "end", 12, bars->bars[b].name);
        for (int p = 0; bars->parts[p] && sum > 0; p++) {
            const double width = BAR_WIDTH * bars->bars[b].parts[p] / sum;
            tamisi_buf_printf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"17\" fill=\"%s\"><title>%s %.1f us"
                                   "</title></rect>\n", x, y, width, colors[(size_t)p % COLORS], bars->parts[p],
                              bars->bars[b].parts[p]);
            x += width;
        }
        snprintf(total, sizeof total, "%.3f ms", sum / 1000);
        put_text(out, BAR_LEFT + BAR_WIDTH + 6, y + 13, "start", 11, total);
    }
    for (int p = 0; bars->parts[p]; p++) put_legend(out, WIDTH - 92, TOP + 12 + 20 * p, (size_t)p, bars->parts[p]);
    tamisi_buf_puts(out, "</svg>\n");
}

/* ---- candidates */

#define STRIP_LEFT 170.0
#define STRIP_WIDTH 440.0
#define STRIP_STEP 26.0
#define MOST_RATIO 4.0 /* times slower than the best; what is slower stands at the edge */

static double place_ratio(double ratio)
{
    return STRIP_LEFT + STRIP_WIDTH * fmin(log2(ratio), log2(MOST_RATIO)) / log2(MOST_RATIO);
}

static void write_dot(struct tamisi_buf *out, const struct report_bucket *bucket, const struct tamisi_timing *timing, double y)
{
    const bool chosen = strcmp(timing->variant, bucket->chosen) == 0, timed = timing->state == TAMISI_TIMED;
    if (timing->state != TAMISI_TIMED && timing->state != TAMISI_STOPPED) return;
    const double ratio = fmax(timing->median_us / bucket->best_us, 1);
    tamisi_buf_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%g\" fill=\"%s\" fill-opacity=\"%s\" stroke=\"%s\"><title>",
                      place_ratio(ratio), y, chosen ? 6.0 : 4.0, chosen ? colors[1] : colors[0], timed ? "0.9" : "0.25",
                      chosen ? colors[1] : colors[0]);
    report_escape(out, timing->variant);
    tamisi_buf_printf(out, ": %.1f us, %d rounds, %s</title></circle>\n", timing->median_us, timing->rounds,
                      tamisi_timing_state_name(timing->state));
}

static int count_bad(const struct report_bucket *bucket)
{
    int bad = 0;
    for (size_t i = 0; i < bucket->count; i++) bad += bucket->timings[i].state >= TAMISI_REFUSED;
    return bad;
}

void report_landscape_write(struct tamisi_buf *out, const struct report *report, const char *family)
{
    static const double ratios[] = {1, 1.25, 1.5, 2, 3, 4};
    int rows = 0;
    for (size_t i = 0; i < report->bucket_count; i++)
        rows += strcmp(report->buckets[i].family, family) == 0 && report->buckets[i].best_us > 0;
    if (rows == 0) return;
    const double height = TOP + 22 + STRIP_STEP * rows;
    char title[96], text[64];
    snprintf(title, sizeof title, "Candidates of %s: time over the chosen one's", family);
    open_picture(out, title, WIDTH, height);
    put_text(out, 10, 20, "start", 14, title);
    for (size_t r = 0; r < sizeof ratios / sizeof *ratios; r++) {
        snprintf(text, sizeof text, "%g%s", ratios[r], ratios[r] == MOST_RATIO ? "+" : "");
        put_line(out, place_ratio(ratios[r]), TOP + 12, place_ratio(ratios[r]), height - 6, "#e3e3e3");
        put_text(out, place_ratio(ratios[r]), TOP + 6, "middle", 11, text);
    }
    double y = TOP + 26;
    for (size_t i = 0; i < report->bucket_count; i++) {
        const struct report_bucket *bucket = &report->buckets[i];
        char tokens[24], lists[32];
        if (strcmp(bucket->family, family) != 0 || bucket->best_us <= 0) continue;
        format_tokens(tokens, (double)bucket->bucket.seq_len);
        report_name_lists(lists, &bucket->bucket);
        if (lists[0]) snprintf(text, sizeof text, "%s, %s", tokens, lists);
        else if (bucket->bucket.dense || bucket->bucket.kept == 0) snprintf(text, sizeof text, "%s", tokens);
        else snprintf(text, sizeof text, "%s, %lld kept", tokens, (long long)bucket->bucket.kept);
        put_text(out, STRIP_LEFT - 12, y + 4, "end", 12, text);
        for (size_t t = 0; t < bucket->count; t++) write_dot(out, bucket, &bucket->timings[t], y);
        snprintf(text, sizeof text, "%d out", count_bad(bucket));
        if (count_bad(bucket) > 0) put_text(out, STRIP_LEFT + STRIP_WIDTH + 12, y + 4, "start", 11, text);
        y += STRIP_STEP;
    }
    tamisi_buf_puts(out, "</svg>\n");
}
