package records

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// encodings lists the values of [TextOptions].Encoding. "" is UTF-8, or UTF-16 if a file has its byte order mark.
var encodings = []string{"utf-8", "utf-16", "utf-16le", "utf-16be", "latin-1", "windows-1252"}

// invalidText replaces invalid text in the output of [Decode]. UTF-8 never contains this byte.
const invalidText = 0xff

// InvalidText returns the error for text that is not valid in an encoding.
func InvalidText(encoding string) error {
	return fmt.Errorf("the text is not valid %s", cmp.Or(encoding, "UTF-8"))
}

// windows1252 holds the characters 80 to 9F of Windows-1252, or -1 if a character is not defined.
var windows1252 = [...]rune{
	'€', -1, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', -1, 'Ž', -1,
	-1, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', -1, 'ž', 'Ÿ',
}

// byteOrderMarks lists the marks at the beginning of a file. UTF-32's come first, because they contain those of UTF-16.
var byteOrderMarks = []struct{ bytes, encoding string }{
	{"\xff\xfe\x00\x00", "UTF-32"}, {"\x00\x00\xfe\xff", "UTF-32"}, {"\xff\xfe", "utf-16le"}, {"\xfe\xff", "utf-16be"}, {ByteOrderMark, "utf-8"},
}

// markedEncoding returns the encoding that the byte order mark at the beginning of head stands for, or "".
func markedEncoding(head []byte) string {
	for _, mark := range byteOrderMarks {
		if bytes.HasPrefix(head, []byte(mark.bytes)) {
			return mark.encoding
		}
	}
	return ""
}

// Decode returns a reader that converts a file to UTF-8, and the file's encoding. The byte FF replaces invalid text. If the file needs no conversion, Decode returns r and "".
func Decode(r *bufio.Reader, encoding string) (*bufio.Reader, string, error) {
	head, _ := r.Peek(4) // reading returns the error, if there is one
	marked := markedEncoding(head)
	isUTF16 := marked == "utf-16le" || marked == "utf-16be"
	switch {
	case isUTF16 && (encoding == "" || encoding == "utf-16"):
		encoding = marked
	case encoding == "" || len(head) == 0:
		return r, "", nil
	case marked != "" && marked != encoding:
		return nil, "", fmt.Errorf("the encoding is set to %s, but the file has the byte order mark of %s", encoding, marked)
	case encoding == "utf-16":
		return nil, "", errors.New("the file has no byte order mark: set the encoding to utf-16le or utf-16be")
	}
	return bufio.NewReader(&decoder{r: r, next: decoders[encoding]}), encoding, nil
}

// decoders maps an encoding to a function that returns the first character of its input and the character's size. The
// character is -1 if the input is invalid. The size is 0 if the input is too short.
var decoders = map[string]func([]byte) (c rune, size int){
	"utf-16le": func(in []byte) (rune, int) { return decodeUTF16(in, binary.LittleEndian.Uint16) },
	"utf-16be": func(in []byte) (rune, int) { return decodeUTF16(in, binary.BigEndian.Uint16) },
	"latin-1":  func(in []byte) (rune, int) { return rune(in[0]), 1 },
	"windows-1252": func(in []byte) (rune, int) {
		if c := in[0]; c < 0x80 || c >= 0xa0 {
			return rune(c), 1
		}
		return windows1252[in[0]-0x80], 1
	},
}

func decodeUTF16(in []byte, readUnit func([]byte) uint16) (rune, int) {
	if len(in) < 2 {
		return 0, 0
	}
	c := rune(readUnit(in))
	if !utf16.IsSurrogate(c) {
		return c, 2
	}
	if len(in) < 4 {
		return 0, 0
	}
	if decoded := utf16.DecodeRune(c, rune(readUnit(in[2:]))); decoded != unicode.ReplacementChar {
		return decoded, 4
	}
	return -1, 2
}

// decoder is a reader that decodes r with next and returns UTF-8.
type decoder struct {
	r    *bufio.Reader
	next func([]byte) (rune, int)
	buf  []byte
	out  []byte // the part of buf that has not been read
	err  error  // error from r, to return after out
}

func (d *decoder) Read(p []byte) (int, error) {
	if len(d.out) == 0 && d.err != nil {
		return 0, d.err
	}
	if len(d.out) == 0 {
		_, d.err = d.r.Peek(utf8.UTFMax)
		in, _ := d.r.Peek(d.r.Buffered())
		d.buf = d.buf[:0]
		for len(in) >= utf8.UTFMax || len(in) > 0 && d.err != nil {
			c, size := d.next(in)
			switch {
			case size == 0: // the file ends within a character
				c, size = -1, min(2, len(in))
				fallthrough
			case c < 0:
				d.buf = append(d.buf, invalidText)
			default:
				d.buf = utf8.AppendRune(d.buf, c)
			}
			in = in[size:]
		}
		_, _ = d.r.Discard(d.r.Buffered() - len(in)) // these bytes are in the buffer
		d.out = d.buf
	}
	n := copy(p, d.out)
	d.out = d.out[n:]
	return n, nil
}
