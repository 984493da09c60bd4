package records

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf16"

	"github.com/go-partd/partd/internal/testutil/must"
)

// encode is the reverse of Decode for valid text.
func encode(t *testing.T, text string, e string) (encoded []byte) {
	t.Helper()
	for _, c := range text {
		switch i := slices.Index(windows1252[:], c); {
		case e == "utf-16le" || e == "utf-16be":
			for _, unit := range utf16.AppendRune(nil, c) {
				if e == "utf-16be" {
					unit = unit>>8 | unit<<8
				}
				encoded = append(encoded, byte(unit), byte(unit>>8))
			}
		case e == "windows-1252" && c > 0xff && i >= 0:
			encoded = append(encoded, byte(0x80+i))
		case c <= 0xff:
			encoded = append(encoded, byte(c))
		default:
			t.Fatalf("%s has no %q", e, c)
		}
	}
	return encoded
}

// readers return a reader in whose reads characters are cut.
var readers = []func(io.Reader) io.Reader{func(r io.Reader) io.Reader { return r }, iotest.OneByteReader, iotest.HalfReader, iotest.DataErrReader}

// TestDecode checks that random text is decoded, however it is cut into reads.
func TestDecode(t *testing.T) {
	characters := map[string]string{
		"utf-16le": "a\n\x00é€\uffff\ufeff😀\U0010ffff\ud7ff\ue000", "utf-16be": "a\n\x00é€\uffff\ufffd😀\U00010000",
		"latin-1": "a\n\x00é\u0080\u009f\u00ff\u00a0", "windows-1252": "a\n\x00é€Ÿ™ž\u00a0\u00ff",
	}
	r := rand.New(rand.NewPCG(5, 6))
	for e, text := range characters {
		from := []rune(text)
		for round := range 60 {
			var b strings.Builder
			b.WriteString("x") // not a byte order mark
			for range r.IntN(20 + round*round*5) {
				b.WriteRune(from[r.IntN(len(from))])
			}
			encoded := encode(t, b.String(), e)
			for i, cut := range readers {
				decoded, _, err := Decode(bufio.NewReaderSize(cut(bytes.NewReader(encoded)), 16), e)
				must.Do(t, err)
				if got := string(must.Get(io.ReadAll(decoded))(t)); got != b.String() {
					t.Fatalf("%s, round %d, reader %d: decoded %.100q, want %.100q", e, round, i, got, b.String())
				}
			}
		}
	}
}

// TestDecodeInvalid checks that each invalid unit becomes one byte that is not UTF-8, and that a valid one after it is kept.
func TestDecodeInvalid(t *testing.T) {
	for _, c := range []struct {
		e          string
		text, want string
	}{
		{"utf-16le", "a\x00\x00\xd8b\x00", "a\xffb"},
		{"utf-16le", "\x00\xdca\x00", "\xffa"},
		{"utf-16le", "\x00\xd8\x3d\xd8\x00\xde", "\xff😀"},
		{"utf-16be", "\x00a\xd8\x00", "a\xff"},
		{"utf-16be", "\x00a\xd8\x3d\xde", "a\xff\xff"},
		{"utf-16be", "\x00a\x00", "a\xff"},
		{"windows-1252", "\x81\x8d\x8f\x90\x9d\x9e", "\xff\xff\xff\xff\xffž"},
	} {
		for i, cut := range readers {
			decoded, e, err := Decode(bufio.NewReader(cut(strings.NewReader(c.text))), c.e)
			must.Do(t, err)
			if got := string(must.Get(io.ReadAll(decoded))(t)); got != c.want || e != c.e {
				t.Errorf("reader %d: %q in %s is decoded as %q in %s, want %q", i, c.text, c.e, got, e, c.want)
			}
		}
	}
	boom := errors.New("boom")
	decoded, _, err := Decode(bufio.NewReader(io.MultiReader(strings.NewReader("caf\xe9"), iotest.ErrReader(boom))), "latin-1")
	must.Do(t, err)
	if got, err := io.ReadAll(decoded); string(got) != "café" || !errors.Is(err, boom) {
		t.Errorf("reading before an error returns %q, %v", got, err)
	}
}

// TestByteOrderMarks checks which marks are noticed, and which contradict the encoding.
func TestByteOrderMarks(t *testing.T) {
	const le, be, utf32 = "\xff\xfea\x00", "\xfe\xff\x00a", "\xff\xfe\x00\x00"
	for _, c := range []struct {
		set  string
		text string
		want string
		err  string
	}{
		{"", le, "utf-16le", ""},
		{"", be, "utf-16be", ""},
		{"utf-16", le, "utf-16le", ""},
		{"utf-16", be, "utf-16be", ""},
		{"utf-16be", be, "utf-16be", ""},
		{"utf-16be", "\x00a", "utf-16be", ""},
		{"utf-16", "", "", ""},
		{"latin-1", "", "", ""},
		{"", "\xff", "", ""},
		{"", ByteOrderMark, "", ""},
		{"", utf32, "", ""},
		{"latin-1", "\xff", "latin-1", ""},
		{"utf-16", "a,b", "", "no byte order mark"},
		{"utf-16le", be, "", "the byte order mark of utf-16be"},
		{"latin-1", ByteOrderMark + "a", "", "the byte order mark of utf-8"},
		{"utf-16le", utf32, "", "the byte order mark of UTF-32"},
	} {
		r, got, err := Decode(bufio.NewReader(strings.NewReader(c.text)), c.set)
		if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q with the encoding %q: %q, %v, want %q, %s", c.text, c.set, got, err, c.want, c.err)
		} else if err == nil && got == "" {
			if text := must.Get(io.ReadAll(r))(t); string(text) != c.text {
				t.Errorf("%q is read as %q", c.text, text)
			}
		}
	}
}

// TestInvalidColumns checks that a record with invalid text is bad, also if records are read column by column. In a file
// that was not decoded, any bytes are valid.
func TestInvalidColumns(t *testing.T) {
	lines := strings.Split(strings.Repeat("key,value\n", 1000), "\n")
	lines[500] = "k\xffy,value"
	text := strings.Join(lines, "\n")
	for _, e := range []string{"", "utf-16le"} {
		for _, byColumns := range []bool{false, true} {
			open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
			columns := NewColumns(1, 100)
			cfg := Config{Layout: Layout{Format: CSV, NoHeader: true}, Fields: []Field{{Index: 0}}, Block: 4 << 10, MaxRecord: 1 << 20, SkipBad: true}
			tally, err := Read(t.Context(), []Input{{Name: "f", Open: open, Size: -1, Encoding: e}}, cfg, func(b *Block) error {
				for (byColumns && b.NextColumns(columns, 100) > 0) || b.Next() {
					continue
				}
				return nil
			})
			want := int64(0)
			if e != "" {
				want = 1
			}
			if err != nil || tally.Records != 1000-want || tally.BadRecords != want || want > 0 && tally.FirstBadErr.Error() != "f, line 501: the text is not valid utf-16le" {
				t.Errorf("encoding %q, by columns %t: %d records, %d bad, %v, %v", e, byColumns, tally.Records, tally.BadRecords, tally.FirstBadErr, err)
			}
		}
	}
}
