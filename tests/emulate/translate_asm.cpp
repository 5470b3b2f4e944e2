/*
 * translate_asm.cpp: one asm statement as a block of C++. Of PTX it knows what statements of inline PTX are made of: registers
 * and labels, predicates, branches, and instructions with operands in brackets and braces; which instructions there are,
 * ptx.hpp says.
 */
#include "translate.hpp"

#include <algorithm>
#include <cctype>
#include <map>
#include <vector>

namespace emulate {

namespace {

struct Operand {
    std::string expression;
    bool is_output;
};

/* The parts between top-level commas. */
std::vector<std::string> split(const std::string &text)
{
    std::vector<std::string> parts;
    size_t begin = 0;
    for (size_t at = 0; at <= text.size();) {
        if (at == text.size() || text[at] == ',') {
            const std::string part = trimmed(text.substr(begin, at - begin));
            if (!part.empty()) parts.push_back(part);
            begin = ++at;
        } else if (text[at] == '(' || text[at] == '[' || text[at] == '{') {
            at = closing(text, at) + 1;
        } else if (text[at] == '"') {
            at = skip_string(text, at);
        } else {
            at++;
        }
    }
    return parts;
}

/* Lines that the preprocessor has marked, or that come from a template, go. */
std::string without_directives(const std::string &text)
{
    std::string out;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        if (text[skip_space(text, at)] != '#') out += text.substr(at, end - at) + " ";
        at = end + 1;
    }
    return out;
}

/* Template, outputs, inputs, clobbers. Expressions are in parentheses, so that a colon outside of any separates. */
std::vector<std::string> sections(const std::string &inside)
{
    std::vector<std::string> out(1);
    for (size_t at = 0; at < inside.size();) {
        const size_t begin = at;
        if (inside[at] == ':') {
            out.emplace_back();
            at++;
            continue;
        }
        at = inside[at] == '"' ? skip_string(inside, at) : inside[at] == '(' ? closing(inside, at) + 1 : at + 1;
        out.back() += inside.substr(begin, at - begin);
    }
    out.resize(4);
    return out;
}

/* Adjacent string literals as what they say. */
std::string literal(const std::string &text)
{
    std::string out;
    for (size_t at = skip_space(text, 0); at < text.size(); at = skip_space(text, at)) {
        if (text[at] != '"') throw CannotTranslate("asm: no text but " + text.substr(at, 40));
        const size_t end = skip_string(text, at);
        for (size_t i = at + 1; i + 1 < end; i++) {
            if (text[i] != '\\') {
                out += text[i];
                continue;
            }
            const char c = text[++i];
            out += c == 'n' || c == 't' ? ' ' : c;
        }
        at = end;
    }
    return out;
}

void add_operands(std::vector<Operand> &operands, const std::string &section)
{
    for (const std::string &part : split(section)) {
        const size_t open = part.find('(', skip_string(part, part.find('"')));
        const std::string constraint = part.substr(0, open);
        operands.push_back({part.substr(open), constraint.find_first_of("=+") != std::string::npos});
    }
}

class Statement {
public:
    Statement(const std::string &inside, int id) : suffix("_" + std::to_string(id))
    {
        const std::vector<std::string> parts = sections(without_directives(inside));
        ptx = literal(parts[0]);
        add_operands(operands, parts[1]);
        add_operands(operands, parts[2]);
    }
    std::string run();

private:
    void translate_next();
    void declare(const std::string &registers);
    std::string instruction(const std::string &text) const;
    std::string argument(const std::string &text) const;
    std::string group(const std::string &text) const;
    std::string name(const std::string &word) const { return word + suffix; }

    std::string ptx, suffix, out;
    std::vector<Operand> operands;
    size_t at = 0;
};

/* ".reg .pred p, q" */
void Statement::declare(const std::string &registers)
{
    static const std::map<std::string, std::string> types = {
        {".pred", "bool"},     {".b16", "unsigned short"},     {".u16", "unsigned short"},     {".b32", "unsigned"},
        {".u32", "unsigned"},  {".s32", "int"},                {".b64", "unsigned long long"}, {".u64", "unsigned long long"},
        {".f32", "float"},     {".s64", "long long"},          {".f64", "double"}};
    const size_t begin = skip_space(registers, 4), end = registers.find_first_of(" \t", begin);
    const auto type = types.find(registers.substr(begin, end - begin));
    if (type == types.end()) throw CannotTranslate("asm: " + registers);
    for (const std::string &reg : split(registers.substr(end))) out += type->second + " " + name(reg) + "; ";
}

/* "{%0, %1}": pointers to what is written, values of what is read. */
std::string Statement::group(const std::string &text) const
{
    std::string list;
    for (const std::string &part : split(text)) {
        const bool is_operand = part[0] == '%' && part.size() > 1 && std::isdigit(static_cast<unsigned char>(part[1]));
        const bool is_output = is_operand && operands.at(std::stoul(part.substr(1))).is_output;
        list += (list.empty() ? "" : ", ") + std::string(is_output ? "&" : "") + argument(part);
    }
    return "{" + list + "}";
}

std::string Statement::argument(const std::string &text) const
{
    if (text == "_") return "ptx::nowhere";
    if (text[0] == '{') return group(text.substr(1, closing(text, 0) - 1));
    if (text[0] == '[') { /* an address, or an address and coordinates */
        std::string list;
        for (const std::string &part : split(text.substr(1, closing(text, 0) - 1)))
            list += (list.empty() ? "" : ", ") + argument(part);
        return list;
    }
    const size_t plus = text.find('+');
    if (plus != std::string::npos) return argument(trimmed(text.substr(0, plus))) + " + " + trimmed(text.substr(plus + 1));
    if (text[0] == '%' && std::isdigit(static_cast<unsigned char>(text[1])))
        return operands.at(std::stoul(text.substr(1))).expression;
    if (text[0] == '%') { /* "%%laneid" */
        std::string special = text.substr(text[1] == '%' ? 2 : 1);
        for (char &c : special)
            if (c == '.') c = '_';
        return "ptx::special_" + special + "()";
    }
    if (text.compare(0, 2, "0f") == 0) return "__builtin_bit_cast(float, 0x" + text.substr(2) + "u)";
    if (text[0] == '-' || std::isdigit(static_cast<unsigned char>(text[0]))) return text;
    return name(text);
}

/* "mma.sync.aligned.m16n8k16.row" as "ptx::mma_sync_aligned_row<16, 8, 16>". */
std::string function_name(const std::string &opcode)
{
    std::string out = "ptx::", sizes, part;
    for (size_t i = 0; i <= opcode.size(); i++) {
        if (i < opcode.size() && opcode[i] != '.' && opcode[i] != ':') {
            part += opcode[i];
            continue;
        }
        const bool is_size = part.size() > 3 && part[0] == 'm' && std::isdigit(static_cast<unsigned char>(part[1]));
        if (is_size) {
            for (const char c : part)
                sizes += std::isdigit(static_cast<unsigned char>(c)) ? std::string(1, c) : sizes.empty() ? "" : ", ";
        } else if (!part.empty()) {
            out += (out == "ptx::" ? "" : "_") + part;
        }
        part.clear();
    }
    return sizes.empty() ? out : out + "<" + sizes + ">";
}

std::string Statement::instruction(const std::string &text) const
{
    const size_t end = text.find_first_of(" \t\n");
    const std::string opcode = text.substr(0, end);
    if (opcode == "bra") return "goto " + name(trimmed(text.substr(end))) + ";";
    std::string list;
    if (end != std::string::npos)
        for (const std::string &part : split(text.substr(end))) list += (list.empty() ? "" : ", ") + argument(part);
    return function_name(opcode) + "(" + list + ");";
}

void Statement::translate_next()
{
    if (ptx[at] == '{' || ptx[at] == '}') {
        out += ptx[at++];
        out += ' ';
        return;
    }
    if (ptx[at] == ';') {
        at++;
        return;
    }
    const size_t word = skip_word(ptx, at), colon = skip_space(ptx, word);
    if (word > at && colon < ptx.size() && ptx[colon] == ':' && ptx[colon + 1] != ':') {
        out += name(ptx.substr(at, word - at)) + ": ; ";
        at = colon + 1;
        return;
    }
    const size_t end = ptx.find(';', at);
    std::string text = trimmed(ptx.substr(at, end - at));
    at = end == std::string::npos ? ptx.size() : end + 1;
    if (text.compare(0, 5, ".reg ") == 0) {
        declare(text);
        return;
    }
    if (text[0] == '@') {
        const bool inverted = text[1] == '!';
        const size_t begin = inverted ? 2 : 1, stop = text.find_first_of(" \t\n", begin);
        out += "if (" + std::string(inverted ? "!" : "") + argument(text.substr(begin, stop - begin)) + ") ";
        text = trimmed(text.substr(stop));
    }
    out += instruction(text) + " ";
}

std::string Statement::run()
{
    for (at = skip_space(ptx, 0); at < ptx.size(); at = skip_space(ptx, at)) translate_next();
    return "{ " + out + "}";
}

} // namespace

std::string translate_asm(const std::string &inside, int number) { return Statement(inside, number).run(); }

} // namespace emulate
