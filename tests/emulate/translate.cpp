/*
 * translate.cpp: what a kernel's text has that C++ does not, but for inline PTX.
 */
#include "translate.hpp"

#include <cctype>
#include <vector>

namespace emulate {

bool is_word(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

size_t skip_space(const std::string &text, size_t at)
{
    while (at < text.size() && std::isspace(static_cast<unsigned char>(text[at]))) at++;
    return at;
}

size_t skip_word(const std::string &text, size_t at)
{
    while (at < text.size() && is_word(text[at])) at++;
    return at;
}

size_t skip_string(const std::string &text, size_t at)
{
    const char quote = text[at];
    for (at++; at < text.size() && text[at] != quote; at++)
        if (text[at] == '\\') at++;
    return at + 1;
}

size_t closing(const std::string &text, size_t open)
{
    int depth = 0;
    for (size_t at = open; at < text.size();) {
        const char c = text[at];
        if (c == '"' || (c == '\'' && (at == 0 || !is_word(text[at - 1])))) {
            at = skip_string(text, at);
            continue;
        }
        if (c == '(' || c == '[' || c == '{') depth++;
        if ((c == ')' || c == ']' || c == '}') && --depth == 0) return at;
        at++;
    }
    throw CannotTranslate("a bracket is not closed: " + text.substr(open, 60));
}

std::string trimmed(const std::string &text)
{
    const size_t begin = skip_space(text, 0);
    size_t end = text.size();
    while (end > begin && std::isspace(static_cast<unsigned char>(text[end - 1]))) end--;
    return text.substr(begin, end - begin);
}

namespace {

class Translator {
public:
    explicit Translator(const std::string &source) : text(source) {}
    std::string run();

private:
    void translate_word(const std::string &word);
    void translate_asm_statement();
    void translate_shared();
    void translate_dynamic_shared();
    void note_kernel();
    std::string take_until_semicolon();
    void keep_lines(size_t begin); /* what was taken from there on leaves its line breaks */

    const std::string &text;
    size_t at = 0;
    std::string out;
    int number = 0; /* of what was translated */
    std::vector<std::string> kernels;
};

void Translator::keep_lines(size_t begin)
{
    for (size_t i = begin; i < at; i++)
        if (text[i] == '\n') out += '\n';
}

std::string Translator::take_until_semicolon()
{
    const size_t begin = at;
    while (at < text.size() && text[at] != ';')
        at = text[at] == '[' || text[at] == '(' || text[at] == '{' ? closing(text, at) + 1 : at + 1;
    return text.substr(begin, at++ - begin);
}

void Translator::translate_asm_statement()
{
    const size_t begin = at;
    at = skip_space(text, at);
    for (size_t end = skip_word(text, at); end > at; end = skip_word(text, at)) at = skip_space(text, end); /* volatile */
    if (text[at] != '(') throw CannotTranslate("asm without a parenthesis");
    const size_t end = closing(text, at);
    const std::string inside = text.substr(at + 1, end - at - 1);
    at = skip_space(text, end + 1);
    if (text[at++] != ';') throw CannotTranslate("asm without a semicolon"); /* a block takes none, as before "else" */
    out += translate_asm(inside, ++number);
    keep_lines(begin);
}

/* Names of declarators: words right before "[", "," or the end, outside of brackets. */
static std::vector<std::string> declared_names(const std::string &declaration)
{
    std::vector<std::string> names;
    std::string word;
    int angles = 0;
    const std::string text = declaration + ",";
    for (size_t i = 0; i < text.size();) {
        if (is_word(text[i])) {
            const size_t end = skip_word(text, i);
            word = text.substr(i, end - i);
            i = end;
        } else if (text[i] == '<' || text[i] == '>') {
            angles += text[i++] == '<' ? 1 : -1;
            word.clear();
        } else if (text[i] == '[' || text[i] == '(') {
            if (text[i] == '[' && !word.empty()) names.push_back(word);
            word.clear();
            i = closing(text, i) + 1;
        } else {
            if (text[i] == ',' && angles == 0 && !word.empty()) names.push_back(word);
            if (!std::isspace(static_cast<unsigned char>(text[i]))) word.clear();
            i++;
        }
    }
    return names;
}

void Translator::translate_shared()
{
    const size_t begin = at;
    const std::string declaration = take_until_semicolon(), id = std::to_string(++number);
    out +=
        "struct emulated_shared_" + id + " {" + trimmed(declaration) + ";}; static ::emulate::Slot emulated_slot_" + id + ";";
    for (const std::string &name : declared_names(declaration))
        out += " auto &" + name + " = ::emulate::shared_variables<emulated_shared_" + id + ">(emulated_slot_" + id + ")." +
               name + ";";
    keep_lines(begin);
}

/* [__align__(N)] T name[] */
void Translator::translate_dynamic_shared()
{
    const size_t begin = at;
    std::string declaration = take_until_semicolon(), alignment = "16";
    const size_t attribute = declaration.find("__align__");
    if (attribute != std::string::npos) {
        const size_t open = declaration.find('(', attribute), close = closing(declaration, open);
        alignment = declaration.substr(open + 1, close - open - 1);
        declaration.erase(attribute, close + 1 - attribute);
    }
    const std::string name = declared_names(declaration).at(0);
    const std::string type = trimmed(declaration.substr(0, declaration.rfind(name)));
    out += type + " *const " + name + " = reinterpret_cast<" + type + " *>(::emulate::dynamic_shared(" + alignment + "));";
    keep_lines(begin);
}

/* The first word behind __global__ and what belongs to it that a "(" follows, and that is no attribute. */
void Translator::note_kernel()
{
    for (size_t i = at; i < text.size() && text[i] != '{' && text[i] != ';';) {
        if (!is_word(text[i])) {
            i++;
            continue;
        }
        const size_t end = skip_word(text, i), next = skip_space(text, end);
        const std::string word = text.substr(i, end - i);
        i = end;
        if (text[next] != '(') continue;
        if (word.compare(0, 2, "__") != 0) {
            kernels.push_back(word);
            return;
        }
        i = closing(text, next) + 1;
    }
}

void Translator::translate_word(const std::string &word)
{
    if (word == "asm" || word == "__asm__") {
        translate_asm_statement();
    } else if (word == "__shared__") {
        translate_shared();
    } else if (word == "extern" && text.compare(skip_space(text, at), 10, "__shared__") == 0) {
        at = skip_space(text, at) + 10;
        translate_dynamic_shared();
    } else {
        if (word == "__global__") note_kernel();
        out += word;
    }
}

std::string Translator::run()
{
    while (at < text.size()) {
        const size_t begin = at;
        if (text[at] == '"' || text[at] == '\'') {
            at = skip_string(text, at);
            out += text.substr(begin, at - begin);
        } else if (std::isdigit(static_cast<unsigned char>(text[at]))) { /* with its suffix; 1'000 too */
            while (at < text.size() && (is_word(text[at]) || text[at] == '\'' || text[at] == '.')) at++;
            out += text.substr(begin, at - begin);
        } else if (text[at] == '#') { /* a line marker or a pragma */
            at = text.find('\n', at);
            if (at == std::string::npos) at = text.size();
            out += text.substr(begin, at - begin);
        } else if (is_word(text[at])) {
            at = skip_word(text, at);
            translate_word(text.substr(begin, at - begin));
        } else {
            out += text[at++];
        }
    }
    for (const std::string &kernel : kernels)
        out += "\nextern \"C\" __attribute__((visibility(\"default\"))) void emulated_" + kernel +
               "(void **parameters) { ::emulate::call(" + kernel + ", parameters); }\n";
    return out;
}

} // namespace

std::string translate(const std::string &source) { return Translator(source).run(); }

} // namespace emulate
