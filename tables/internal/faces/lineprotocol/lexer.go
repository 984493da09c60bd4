package lineprotocol

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// lexer splits a body into the parts of its points. For each point, call next, measurement, tag until its key is nil,
// field until isLast, and timestamp. The body must be valid UTF-8. The results share the body's memory.
type lexer struct {
	body []byte
	pos  int // offset of the next byte
}

// kind is the type of a value, as errors name it.
type kind string

const (
	kindFloat  kind = "float"
	kindInt    kind = "int"
	kindUint   kind = "uint"
	kindBool   kind = "bool"
	kindString kind = "string"
)

// value is the value of a point's field. Besides kind, only the member for this kind is set.
type value struct {
	kind    kind
	float   float64
	integer int64
	uint    uint64
	bool    bool
	text    []byte
}

// The bytes that a backslash escapes in a name, a measurement or a string. Before other bytes, a backslash stands for
// itself. A name (such as a tag's key or value) or a measurement ends before such a byte without a backslash, and
// before a control character.
const (
	escapedInName        = ",= "
	escapedInMeasurement = ", "
	escapedInString      = `"\`
)

// byteSet says for each byte whether it is in the set. A lexer uses sets of bytes that end a text.
type byteSet [256]bool

const controls = "\x00\x01\x02\x03\x04\x05\x06\x07\b\t\n\v\f\r\x0e\x0f\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1a\x1b\x1c\x1d\x1e\x1f\x7f"

var (
	endsName, endsMeasurement = newByteSet(escapedInName + controls), newByteSet(escapedInMeasurement + controls)
	endsString, endsComment   = newByteSet(`"`), newByteSet("\n")
	endsValue, endsTimestamp  = newByteSet(", \r\n"), newByteSet(" \r\n")
)

func newByteSet(members string) *byteSet {
	var s byteSet
	for i := range len(members) {
		s[members[i]] = true
	}
	return &s
}

// next advances to the next point and reports whether there is one. It skips empty lines and comments.
func (l *lexer) next() bool {
	for l.pos < len(l.body) {
		l.skipSpaces()
		if l.nextIs('#') {
			l.text("", endsComment)
		}
		if !l.endLine() {
			return true
		}
	}
	return false
}

func (l *lexer) nextIs(c byte) bool { return l.pos < len(l.body) && l.body[l.pos] == c }

// skip skips the next byte if it is c and reports whether it was.
func (l *lexer) skip(c byte) bool {
	isNext := l.nextIs(c)
	if isNext {
		l.pos++
	}
	return isNext
}

// skipSpaces skips spaces and reports whether there were any.
func (l *lexer) skipSpaces() bool {
	start := l.pos
	for l.nextIs(' ') {
		l.pos++
	}
	return l.pos > start
}

// endLine skips a line break and reports whether there was one. The end of the body counts as a line break.
func (l *lexer) endLine() bool {
	rest := l.body[l.pos:]
	if bytes.HasPrefix(rest, []byte("\r\n")) || string(rest) == "\r" {
		l.pos++
	}
	return l.skip('\n') || l.pos == len(l.body)
}

func (l *lexer) measurement() ([]byte, error) {
	start := l.pos
	name := l.text(escapedInMeasurement, endsMeasurement)
	if len(name) == 0 {
		return nil, l.errorAt(start, "expected a measurement, found %s", l.describeNext())
	}
	return name, nil
}

// tag returns a point's next tag. After the last tag, the key is nil.
func (l *lexer) tag() (key, text []byte, err error) {
	if l.skipSpaces() {
		return nil, nil, nil
	}
	if !l.skip(',') {
		return nil, nil, l.errorAt(l.pos, "expected a comma and a tag, or a space and a field, found %s", l.describeNext())
	}
	key, err = l.key("tag")
	if err != nil {
		return nil, nil, err
	}
	start := l.pos
	text = l.text(escapedInName, endsName)
	if len(text) == 0 {
		return nil, nil, l.errorAt(start, "expected the value of tag %.100q, found %s", key, l.describeNext())
	}
	return key, text, nil
}

// field returns a point's next field, and whether it is the last one.
func (l *lexer) field() (key []byte, v value, isLast bool, err error) {
	key, err = l.key("field")
	if err != nil {
		return nil, v, false, err
	}
	start := l.pos
	if !l.skip('"') {
		v, err = parseValue(l.text("", endsValue))
		if err != nil {
			return nil, v, false, l.errorAt(start, "field %.100q: %v", key, err)
		}
		return key, v, !l.skip(','), nil
	}
	v = value{kind: kindString, text: l.text(escapedInString, endsString)}
	if !l.skip('"') {
		return nil, v, false, l.errorAt(start, "expected closing quote of field %.100q", key)
	}
	return key, v, !l.skip(','), nil
}

// timestamp returns a point's timestamp, which is empty if the point has none. It also skips the line break.
func (l *lexer) timestamp() (text []byte, err error) {
	if l.skipSpaces() {
		text = l.text("", endsTimestamp)
		l.skipSpaces()
	}
	if !l.endLine() {
		return nil, l.errorAt(l.pos, "expected the end of the line, found %s", l.describeNext())
	}
	return text, nil
}

// key returns the key of a tag or field and skips the equals sign. kind is "tag" or "field".
func (l *lexer) key(kind string) ([]byte, error) {
	start := l.pos
	key := l.text(escapedInName, endsName)
	if len(key) == 0 {
		return nil, l.errorAt(start, "expected the key of a %s, found %s", kind, l.describeNext())
	}
	if !l.skip('=') {
		return nil, l.errorAt(l.pos, "expected '=' after the key %.100q of a %s, found %s", key, kind, l.describeNext())
	}
	return key, nil
}

// text reads up to the first unescaped byte that is in ends. It returns the text without the backslashes that escape bytes in escapable.
func (l *lexer) text(escapable string, ends *byteSet) []byte {
	isEscape := func(i int) bool { // i is the offset of a backslash
		return i+1 < len(l.body) && strings.IndexByte(escapable, l.body[i+1]) >= 0
	}
	start, hasEscapes := l.pos, false
	for ; l.pos < len(l.body); l.pos++ {
		c := l.body[l.pos]
		if c == '\\' && isEscape(l.pos) {
			hasEscapes = true
			l.pos++
		} else if ends[c] {
			break
		}
	}
	if !hasEscapes {
		return l.body[start:l.pos]
	}
	text := make([]byte, 0, l.pos-start)
	for i := start; i < l.pos; i++ {
		if l.body[i] == '\\' && isEscape(i) {
			i++
		}
		text = append(text, l.body[i])
	}
	return text
}

// parseValue parses a value that is not a string.
func parseValue(raw []byte) (v value, err error) {
	const digits = "0123456789"
	text := string(raw)
	switch text {
	case "t", "T", "true", "True", "TRUE":
		return value{kind: kindBool, bool: true}, nil
	case "f", "F", "false", "False", "FALSE":
		return value{kind: kindBool}, nil
	}
	number, isInt := strings.CutSuffix(text, "i")
	unsigned, isUint := strings.CutSuffix(text, "u")
	switch {
	case strings.HasPrefix(text, "+") || strings.Trim(text, "+-.eEiu"+digits) != "": // strconv also accepts other notations, such as hexadecimal
		err = strconv.ErrSyntax
	case isInt:
		v.kind = kindInt
		v.integer, err = strconv.ParseInt(number, 10, 64)
	case isUint:
		v.kind = kindUint
		v.uint, err = strconv.ParseUint(unsigned, 10, 64)
	default:
		v.kind = kindFloat
		v.float, err = strconv.ParseFloat(text, 64)
	}
	if err != nil {
		return v, fmt.Errorf("the value %.40q is neither a number, such as 1.5, 1i or 1u, nor true, false or a string in double quotes, or it is out of range", raw)
	}
	return v, nil
}

// describeNext describes the next character, for errors.
func (l *lexer) describeNext() string {
	if l.pos == len(l.body) {
		return "the end of the body"
	}
	r, _ := utf8.DecodeRune(l.body[l.pos:])
	return strconv.QuoteRune(r)
}

// errorAt returns an error about the byte at an offset in the body.
func (l *lexer) errorAt(offset int, format string, args ...any) error {
	column := offset - bytes.LastIndexByte(l.body[:offset], '\n')
	return lineError(l.lineOf(offset), "column %d: %s", column, fmt.Sprintf(format, args...))
}

// lineOf returns the number of the line that contains the byte at an offset.
func (l *lexer) lineOf(offset int) int { return 1 + bytes.Count(l.body[:offset], []byte("\n")) }
