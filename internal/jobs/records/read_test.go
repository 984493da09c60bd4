package records

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// record holds copies of a key and its record.
type record struct{ key, data string }

// input returns an input that holds data.
func input(name, data string) Input {
	return Input{Name: name, Size: int64(len(data)), Open: func() (io.ReadCloser, error) {
		return io.NopCloser(strings.NewReader(data)), nil
	}}
}

// smallConfig returns a configuration with blocks so small that they split every record.
func smallConfig(l Layout, f Field, columns ...string) Config {
	return Config{Layout: l, Fields: []Field{f}, Columns: columns, Block: 16, MaxRecord: 1 << 20}
}

// readAll returns the records with their first requested field, and checks their offsets and counts.
func readAll(t *testing.T, cfg Config, inputs ...Input) ([]record, Tally, error) {
	t.Helper()
	cfg.Workers = 3
	var got []record
	last := int64(-1)
	tally, err := Read(t.Context(), inputs, cfg, func(b *Block) error {
		var part []record
		var offsets []int64
		for b.Next() {
			if len(b.Fields[0]) > partd.MaxKeyLen {
				b.MarkBad(errLongKey)
				continue
			}
			part = append(part, record{string(b.Fields[0]), string(b.Record)})
			offsets = append(offsets, b.Offset())
		}
		if n, _ := b.Tally(); n != int64(len(part)) {
			t.Errorf("Tally counts %d records in a block of %d", n, len(part))
		}
		if err := b.WaitForEarlier(); err != nil {
			return err
		}
		got = append(got, part...)
		for _, o := range offsets {
			if o <= last {
				t.Errorf("a record at offset %d follows one at offset %d, want increasing offsets", o, last)
			}
			last = o
		}
		return nil
	})
	if err == nil && (!tally.Accounted() || tally.Records != int64(len(got))) {
		t.Errorf("the counts do not add up: %d records, %+v", len(got), tally)
	}
	return got, tally, err
}

var errLongKey = errors.New("the key is too long")

func TestReadFormats(t *testing.T) {
	abc := []string{"a", "b", "c"}
	for _, c := range []struct {
		name string
		cfg  Config
		data string
		want []record
	}{
		{
			"csv", smallConfig(Layout{Format: CSV}, Field{Index: 1}, abc...),
			"a,b,c\n1,x,3\n\n4,\"y\",6\r\n7,\"y \"\"z\"\", n\nl\",\n8,5\" disk,9",
			[]record{{"x", "1,x,3\n"}, {"y", "4,\"y\",6\r\n"}, {"y \"z\", n\nl", "7,\"y \"\"z\"\", n\nl\",\n"}, {"5\" disk", "8,5\" disk,9\n"}},
		},
		{
			"csv, last column of CR LF lines", smallConfig(Layout{Format: CSV}, Field{Index: 2}, abc...),
			"\ufeff\"a\",b,c\r\n1,2,x\r\n1,2,\"x\"\r\n\r\n1,\"2\",x\r",
			[]record{{"x", "1,2,x\r\n"}, {"x", "1,2,\"x\"\r\n"}, {"x", "1,\"2\",x\r\n"}},
		},
		{
			"csv without header, from the end", smallConfig(Layout{Format: CSV, NoHeader: true}, Field{Index: -2}),
			"\"1\",x,3\n1,\"x\",3\n",
			[]record{{"x", "\"1\",x,3\n"}, {"x", "1,\"x\",3\n"}},
		},
		{
			"csv with semicolons, one quoted empty field", smallConfig(Layout{Format: CSV, Sep: ";"}, Field{Index: 0}, "k"),
			"k\n\"\"\na,b\n",
			[]record{{"", "\"\"\n"}, {"a,b", "a,b\n"}},
		},
		{
			"tsv", smallConfig(Layout{Format: TSV}, Field{Index: 1}, abc...),
			"a\tb\tc\n1\t\"x\ty\"\r\n\t\t\n",
			[]record{{"\"x", "1\t\"x\ty\"\r\n"}, {"", "\t\t\n"}},
		},
		{
			"text, the last field", smallConfig(Layout{Format: Text}, Field{Index: -1}),
			"usr/bin/a b  x/y\nnext\tz \t\r\n  \none",
			[]record{{"x/y", "usr/bin/a b  x/y\n"}, {"z", "next\tz \t\r\n"}, {"one", "one\n"}},
		},
		{
			"text, the second field", smallConfig(Layout{Format: Text}, Field{Index: 1}),
			" a\vb c\na b\x00\xff c\n",
			[]record{{"b", " a\vb c\n"}, {"b\x00\xff", "a b\x00\xff c\n"}},
		},
		{
			"text with a separator", smallConfig(Layout{Format: Text, Sep: "::"}, Field{Index: -1}),
			"a::b:::c\n\nx\n::\n",
			[]record{{":c", "a::b:::c\n"}, {"x", "x\n"}, {"", "::\n"}},
		},
		{
			"jsonl", smallConfig(Layout{Format: JSONL}, Field{Name: "k"}),
			"{\"a\":{\"k\":[1,\"}\"]},\"k\":\"x\\n\\u00e9\"}\n \n { \"k\" : -1.50e3 , \"b\":\"\\\\\\\"\" }\r\n{\"\\u006b\":true}\n{\"k\":\"\"}",
			[]record{
				{"x\né", "{\"a\":{\"k\":[1,\"}\"]},\"k\":\"x\\n\\u00e9\"}\n"},
				{"-1.50e3", " { \"k\" : -1.50e3 , \"b\":\"\\\\\\\"\" }\r\n"},
				{"true", "{\"\\u006b\":true}\n"},
				{"", "{\"k\":\"\"}\n"},
			},
		},
		{"empty csv without a header", smallConfig(Layout{Format: CSV, NoHeader: true}, Field{}), "", nil},
		{"only a byte order mark, without a header", smallConfig(Layout{Format: TSV, NoHeader: true}, Field{}), "\ufeff", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, _, err := readAll(t, c.cfg, input("f", c.data))
			if err != nil || !slices.Equal(got, c.want) {
				t.Errorf("Read: error %v\n got %q\nwant %q", err, got, c.want)
			}
		})
	}
	for _, data := range []string{"", "\ufeff", "\n\r\n"} {
		_, _, err := readAll(t, smallConfig(Layout{Format: CSV}, Field{}), input("f", data))
		must.Fail(t, err, ErrNoHeader, "Read of %q, which has no header", data)
	}
}

func TestReadErrors(t *testing.T) {
	csv := smallConfig(Layout{Format: CSV}, Field{Index: 1}, "a", "b")
	bare := smallConfig(Layout{Format: CSV, NoHeader: true}, Field{Index: 1})
	jsonl := smallConfig(Layout{Format: JSONL}, Field{Name: "k"})
	long := csv
	long.MaxRecord = 100
	for _, c := range []struct {
		name string
		cfg  Config
		data string
		want string
		bad  bool // whether --skip-bad skips the record
	}{
		{"too few fields", csv, "a,b\n1,2\n\"x\ny\",2\n3\n", "f, line 5: the record has 1 field, but the header has 2", true},
		{"too many fields, quoted", csv, "a,b\n1,2,\"3\"\n", "f, line 2: the record has 3 fields, but the header has 2 (a field that contains the separator, such as a decimal comma, needs quotes; if each record begins with a name, as in files written by R, add --row-names)", true},
		{"too few fields without header", bare, "1,2\n1\n", "f, line 2: the record has 1 field, but the first record has 2", true},
		{"text after the closing quote", csv, "a,b\n\"1\"x,2\n", "f, line 2: " + errAfterQuote.Error(), true},
		{"unclosed quote", csv, "a,b\n1,2\n\"1\n1\",\"2\n3,4\n", "f, line 4: " + errUnclosed.Error(), false},
		{"missing field", smallConfig(Layout{Format: Text}, Field{Index: 2}), "a b c\n\na b\n", "f, line 3: field 3 is missing: the record has 2 fields", true},
		{"missing field, counted from the end", smallConfig(Layout{Format: Text}, Field{Index: -3}), "a b\n", "f, line 1: field -3 is missing: the record has 2 fields", true},
		{"missing field with a separator", smallConfig(Layout{Format: Text, Sep: "|"}, Field{Index: -3}), "a|b\n", "f, line 1: field -3 is missing: the record has 2 fields", true},
		{"long key", smallConfig(Layout{Format: Text}, Field{}), strings.Repeat("k", partd.MaxKeyLen+1), "f, line 1: the key is too long", true},
		{"long record", long, "a,b\n1," + strings.Repeat("x", 99), "f, line 2: too large: the record that begins here is longer than 100 bytes, a quarter of --memory", false},
		{"long record with a quote", long, "a,b\n1,2\n1,\"" + strings.Repeat("x\n", 99), "f, line 3: too large: the record that begins here is longer than 100 bytes, a quarter of --memory (it may contain an unclosed quote)", false},
		{"different header", csv, "a,c\n", `f, line 1: the expected and the actual header differ: column 2: "b" and "c"`, false},
		{"not JSON", jsonl, "{\"k\":1}\n{\"k\":1\n", "f, line 2: not JSON: unexpected end of JSON input", true},
		{"not an object", jsonl, "[1]\n", "f, line 1: not a JSON object", true},
		{"missing member", jsonl, "{\"x\":{\"k\":1}}\n", `f, line 1: member "k" is missing`, true},
		{"duplicate member", jsonl, "{\"k\":1,\"k\":2}\n", `f, line 1: member "k" is duplicated`, true},
		{"null", jsonl, "{\"k\":null}\n", `f, line 1: member "k" is null`, true},
		{"object", jsonl, "{\"k\":{}}\n", `f, line 1: member "k" is an object, not a key`, true},
		{"half a surrogate pair", jsonl, "{\"k\":\"\\ud83d x\"}\n", `f, line 1: the string of member "k" contains escapes that are not valid Unicode`, true},
		{"array", jsonl, "{\"k\":[]}\n", `f, line 1: member "k" is an array, not a key`, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := readAll(t, c.cfg, input("f", c.data))
			if err == nil || err.Error() != c.want {
				t.Errorf("Read: got the error %v\nwant %s", err, c.want)
			}
			c.cfg.SkipBad = true
			_, tally, err := readAll(t, c.cfg, input("f", c.data))
			if c.bad != (err == nil) || c.bad && (tally.BadRecords != 1 || tally.FirstBadErr.Error() != c.want) {
				t.Errorf("Read with SkipBad = %+v, %v, want a skipped record instead of an error: %t", tally, err, c.bad)
			}
		})
	}
}

// TestReadLongRecords checks that records may have any length up to the limit, and may begin and end at any position
// in a block.
func TestReadLongRecords(t *testing.T) {
	cfg := smallConfig(Layout{Format: Text}, Field{Index: 0})
	cfg.MaxRecord = 1000
	for n := range 1000 {
		line, otherLine := "k "+strings.Repeat("x", max(n-3, 0))+"\n", "k "+strings.Repeat("y", max(997-n, 0))+"\n"
		got, _, err := readAll(t, cfg, input("f", "k 1\n"+line+otherLine+line+"k 2\n"+line))
		if want := []record{{"k", "k 1\n"}, {"k", line}, {"k", otherLine}, {"k", line}, {"k", "k 2\n"}, {"k", line}}; err != nil || !slices.Equal(got, want) {
			t.Fatalf("records of %d and %d bytes: got %q, %v, want %q", len(line), len(otherLine), got, err, want)
		}
	}
}

func TestReadFailures(t *testing.T) {
	cfg := smallConfig(Layout{Format: Text}, Field{Index: 0})
	boom := errors.New("boom")
	if _, _, err := readAll(t, cfg, Input{Name: "f", Size: -1, Open: func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(boom))), nil
	}}); !errors.Is(err, boom) {
		t.Errorf("Read with a failing input: error %v, want %v", err, boom)
	}
	if _, _, err := readAll(t, cfg, Input{Open: func() (io.ReadCloser, error) { return nil, boom }}); !errors.Is(err, boom) {
		t.Errorf("Read with a failing Open: error %v, want %v", err, boom)
	}
	if _, err := Read(t.Context(), []Input{input("f", strings.Repeat("a\n", 1000))}, cfg, func(*Block) error { return boom }); !errors.Is(err, boom) {
		t.Errorf("Read with a failing handler: error %v, want %v", err, boom)
	}
	grown := input("f", "a\nb\n")
	grown.Size = 2
	if _, _, err := readAll(t, cfg, grown); err == nil || !strings.Contains(err.Error(), "had 2 bytes, but 4 were read") {
		t.Errorf("Read of a file that grew: error %v, want one with the sizes", err)
	}
	// When its context is canceled, Read returns even if a read from the input hangs.
	pr, pw := io.Pipe()
	defer pw.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, _ = pw.Write(bytes.Repeat([]byte("a\n"), 100))
		cancel()
	}()
	_, err := Read(ctx, []Input{{Size: -1, Open: func() (io.ReadCloser, error) { return pr, nil }}}, cfg, func(b *Block) error {
		for b.Next() {
		}
		return nil
	})
	must.Fail(t, err, context.Canceled, "Read with a canceled context and a hanging input")
}

// TestFailedWorkerGetsNoBlock checks that a worker whose block failed gets no further block, because the
// handler may have left this worker's data incomplete.
func TestFailedWorkerGetsNoBlock(t *testing.T) {
	boom := errors.New("boom")
	for name, fail := range map[string]func(*Block) error{
		"an error":     func(*Block) error { return boom },
		"a bad record": func(b *Block) error { b.MarkBad(boom); return nil },
	} {
		cfg := smallConfig(Layout{Format: Text}, Field{Index: 0})
		cfg.Workers = 2
		var failed atomic.Int32
		_, err := Read(t.Context(), []Input{input("f", strings.Repeat("a\n", 1000))}, cfg, func(b *Block) error {
			// Errors are reported in the order of blocks. So block 0 waits until both workers could fail.
			if b.Seq == 0 {
				for deadline := time.Now().Add(100 * time.Millisecond); failed.Load() < 2 && time.Now().Before(deadline); {
					time.Sleep(time.Millisecond)
				}
				for b.Next() {
				}
				return nil
			}
			failed.Add(1)
			b.Next()
			return fail(b)
		})
		if n := failed.Load(); n == 0 || n > 2 || !errors.Is(err, boom) {
			t.Errorf("%s: the handler failed %d times in two workers, want 1 or 2 times: %v", name, n, err)
		}
	}
}

// TestManyMembers checks that a splitter, which finds many fields with a map and few fields by comparing
// names, gets the same results in both ways, even for duplicate fields and duplicate members.
func TestManyMembers(t *testing.T) {
	for _, record := range []string{`{"m0":"a","m3":1,"m11":"\u00e9"}`, `{"m3":1,"other":2}`, `{"m0":1,"m0":2}`, `{"m1":[1],"m2":null}`, `{}`} {
		for _, exclusive := range []bool{false, true} {
			var fields []Field
			for i := range 12 {
				fields = append(fields, Field{Name: fmt.Sprint("m", i%11), Optional: true})
			}
			withMap := NewSplitter(Layout{Format: JSONL}, fields, nil)
			withoutMap := NewSplitter(Layout{Format: JSONL}, fields, nil)
			withoutMap.byName, withMap.exclusive, withoutMap.exclusive = nil, exclusive, exclusive
			withMap.Feed([]byte(record+"\n"), true)
			withoutMap.Feed([]byte(record+"\n"), true)
			got, want := withMap.Next(), withoutMap.Next()
			if withMap.byName == nil || got != want || fmt.Sprint(withMap.Err) != fmt.Sprint(withoutMap.Err) || fmt.Sprintf("%q", withMap.Values) != fmt.Sprintf("%q", withoutMap.Values) {
				t.Errorf("%s: with a map, got %v %v %q; without it, %v %v %q", record, got, withMap.Err, withMap.Values, want, withoutMap.Err, withoutMap.Values)
			}
		}
	}
}

// TestWideRecords checks that the time for a record is proportional to the number of its members. Then this test
// takes a second. If the time were proportional to the square of the number, it would take half a minute.
func TestWideRecords(t *testing.T) {
	var fields []Field
	record := []byte("{")
	for i := range 40_000 {
		name := fmt.Sprintf("member%06d", i)
		fields = append(fields, Field{Name: name, Optional: true})
		record = fmt.Appendf(record, "%q:%d,", name, i)
	}
	record = append(record[:len(record)-1], "}\n"...)
	for _, form := range []string{"flat", "nested"} {
		if form == "nested" { // a different function finds the members
			record = append(record[:len(record)-2], ` ,"nested": {} }`+"\n"...)
			fields = append(fields, Field{Name: "more", Optional: true})
		}
		s := NewSplitter(Layout{Format: JSONL}, fields, nil)
		start := time.Now()
		for range 10 {
			s.Feed(record, true)
			if s.Next() != Data || string(s.Values[39_999]) != "39999" {
				t.Fatal(s.Err)
			}
			if d := time.Since(start); d > 10*time.Second {
				t.Fatalf("splitting %s records took %v, want at most 10 s", form, d)
			}
		}
	}
}
