package pickle

import (
	"fmt"
	"strconv"
	"unicode/utf8"
)

// unescapeUnicode reads the str of protocol 0: a byte is a character of Latin-1,
// \u and \U, with digits, are others.
func unescapeUnicode(line []byte) (any, error) {
	out := make([]byte, 0, len(line))
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c != '\\' || i+1 == len(line) {
			out = utf8.AppendRune(out, rune(c))
			continue
		}
		i++
		digits := 0
		switch line[i] {
		case 'u':
			digits = 4
		case 'U':
			digits = 8
		default:
			out = utf8.AppendRune(append(out, '\\'), rune(line[i]))
			continue
		}
		code, err := character(line, i+1, digits)
		if err != nil {
			return nil, err
		}
		out = appendCode(out, rune(code))
		i += digits
	}
	return string(out), nil
}

// character reads digits of a character's number.
func character(line []byte, at, digits int) (uint64, error) {
	text := line[at:min(at+digits, len(line))]
	code, err := strconv.ParseUint(string(text), 16, 32)
	if err != nil || len(text) < digits || code > utf8.MaxRune {
		return 0, fmt.Errorf("%.12q after a backslash is no character", text)
	}
	return code, nil
}

// appendCode appends a character, or half a surrogate pair, which Go has no
// rune for.
func appendCode(out []byte, code rune) []byte {
	if code < 0xd800 || code > 0xdfff {
		return utf8.AppendRune(out, code)
	}
	return append(out, 0xed, 0x80|byte(code>>6)&0x3f, 0x80|byte(code)&0x3f)
}

// simple are the escapes of one character.
var simple = map[byte]byte{
	'\\': '\\', '\'': '\'', '"': '"', 'a': '\a', 'b': '\b', 'f': '\f',
	'n': '\n', 'r': '\r', 't': '\t', 'v': '\v',
}

// unescapeString reads a str of Python 2 in protocol 0: a literal in quotes.
func unescapeString(line []byte) (any, error) {
	n := len(line)
	if n < 2 || line[0] != line[n-1] || line[0] != '\'' && line[0] != '"' {
		return nil, fmt.Errorf("%.40q has no quotes around it", line)
	}
	line = line[1 : n-1]
	out := make([]byte, 0, len(line))
	for i := 0; i < len(line); i++ {
		c := line[i]
		if c != '\\' {
			out = append(out, c)
			continue
		}
		if i++; i == len(line) {
			return nil, fmt.Errorf("%.40q ends with a backslash", line)
		}
		c = line[i]
		switch plainChar, ok := simple[c]; {
		case ok:
			out = append(out, plainChar)
		case c == 'x':
			code, err := character(line, i+1, 2)
			if err != nil {
				return nil, err
			}
			out = append(out, byte(code))
			i += 2
		case c >= '0' && c <= '7':
			code := 0
			for k := 0; k < 3 && i < len(line) && line[i] >= '0' && line[i] <= '7'; k++ {
				code = code<<3 | int(line[i]-'0')
				i++
			}
			i--
			out = append(out, byte(code))
		default:
			out = append(out, '\\', c)
		}
	}
	return ascii(out)
}
