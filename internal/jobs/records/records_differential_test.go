package records

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// referenceCSV reads CSV with encoding/csv. It returns the bytes and the fields of each record.
func referenceCSV(data string) (records []string, fields [][]string, err error) {
	r := csv.NewReader(strings.NewReader(data))
	r.FieldsPerRecord = -1
	start := int64(0)
	for {
		f, err := r.Read()
		if err == io.EOF {
			return records, fields, nil
		}
		if err != nil {
			return nil, nil, err
		}
		end := r.InputOffset()
		// Empty lines before a record are not part of it.
		text := data[start:end]
		for strings.HasPrefix(text, "\n") || strings.HasPrefix(text, "\r\n") {
			text = text[strings.IndexByte(text, '\n')+1:]
		}
		if !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		start = end
		records, fields = append(records, text), append(fields, f)
	}
}

// compareCSV compares the splitter with encoding/csv. block is the block size.
func compareCSV(t *testing.T, data string, block int) {
	t.Helper()
	wantRecords, wantFields, refErr := referenceCSV(data)
	if errors.Is(refErr, csv.ErrBareQuote) || strings.HasPrefix(data, ByteOrderMark) || strings.Contains(data, "\r\r") {
		// Unlike encoding/csv, we treat a quote inside an unquoted field as data, and skip a byte order
		// mark. encoding/csv sometimes drops both CRs of "\r\r\n".
		return
	}
	n := 0
	if len(wantFields) > 0 {
		n = len(wantFields[0])
	}
	for i := -1; i < n; i++ {
		cfg := Config{Layout: Layout{Format: CSV, NoHeader: true}, Fields: []Field{{Index: i}}, Block: block, MaxRecord: 1 << 20, SkipBad: true}
		got, tally, err := readAll(t, cfg, input("f", data))
		if refErr != nil {
			if err == nil && tally.BadRecords == 0 {
				t.Fatalf("%q: encoding/csv returns %v, but Read accepts the data", data, refErr)
			}
			return
		}
		if err != nil {
			t.Fatalf("Read of %q: %v", data, err)
		}
		var want []record
		for k, f := range wantFields {
			if len(f) == n {
				want = append(want, record{f[(i+n)%n], wantRecords[k]})
			}
		}
		for k := range got { // encoding/csv changes CR LF in a field to LF
			got[k].key = strings.ReplaceAll(got[k].key, "\r\n", "\n")
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%q, blocks of %d, field %d:\n got %q\nwant %q", data, block, i, got, want)
		}
	}
}

func TestRandomCSV(t *testing.T) {
	pieces := []string{"a", "bc", "\"", "\"\"", ",", ",", "\n", "\r\n", "\n", "\r", "\"x\"", "\"y,\n\"", "long text here", "\x00"}
	for seed := range uint64(20_000) {
		r := rand.New(rand.NewPCG(seed, 1))
		var b strings.Builder
		for range r.IntN(30) {
			b.WriteString(pieces[r.IntN(len(pieces))])
		}
		compareCSV(t, b.String(), 16+r.IntN(40))
	}
}

func FuzzCSV(f *testing.F) {
	for _, data := range []string{"a,b\n1,\"2\"\"\"\n", "\"x\r\ny\",z\r\n", "a\n\n\"", "\"a\"b,c\n", "a,b\r"} {
		f.Add(data, uint8(0))
	}
	f.Fuzz(func(t *testing.T, data string, extra uint8) {
		if len(data) < 1<<12 {
			compareCSV(t, data, 16+int(extra))
		}
	})
}

// FuzzJSONL compares the splitter's key of a line with the value that encoding/json returns.
func FuzzJSONL(f *testing.F) {
	for _, line := range []string{`{"k":"x"}`, `{"a":[{"k":1}],"k":-0.5e1}`, `{"\u006b":"\ud83d\ude00"}`, `{"k":null}`, `{"k":1,"k":2}`, `[]`, `{"a":"\\","k":"\""}`, `{`, `{"k":"\ud800"}`, `{"k":"\ud800\u0041"}`, `{"k":"\udc00"}`} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.ContainsAny(line, "\n") {
			return
		}
		s := NewSplitter(Layout{Format: JSONL}, []Field{{Name: "k"}}, nil)
		s.Begin()
		s.Feed([]byte(line+"\n"), true)
		kind := s.Next()
		var object map[string]json.RawMessage
		err := json.Unmarshal([]byte(line), &object)
		raw, exists := object["k"]
		var want string
		isKey := err == nil && exists && json.Unmarshal(raw, &want) == nil && string(raw) != "null"
		if err == nil && exists && !isKey && strings.ContainsAny(string(raw[:1]), "tf-0123456789") {
			want, isKey = string(raw), true
		}
		if kind == Data && !isKey {
			t.Fatalf("%q: got the key %q, but encoding/json finds none (%v)", line, s.Values[0], err)
		}
		if kind == Bad && isKey && !strings.Contains(s.Err.Error(), "is duplicated") && !strings.Contains(s.Err.Error(), "not valid Unicode") {
			t.Fatalf("%q: got %v, but encoding/json finds the key %q", line, s.Err, want)
		}
		if kind == Data && utf8.Valid(s.Values[0]) && string(s.Values[0]) != want {
			t.Fatalf("%q: got the key %q, but encoding/json finds %q", line, s.Values[0], want)
		}
	})
}

// FuzzText compares fields with the results of strings.Fields and strings.Split.
func FuzzText(f *testing.F) {
	f.Add("a b\tc", "", int8(-1))
	f.Add("a::b:::c", "::", int8(1))
	f.Fuzz(func(t *testing.T, line, sep string, index int8) {
		l := Layout{Format: Text, Sep: sep}
		if strings.ContainsAny(line, "\n") || l.Check() != nil {
			return
		}
		s := NewSplitter(l, []Field{{Index: int(index)}}, nil)
		s.Begin()
		s.Feed([]byte(line+"\n"), true)
		kind := s.Next()
		line = strings.TrimSuffix(line, "\r")
		fields := strings.FieldsFunc(line, func(r rune) bool { return r < 128 && space[r] })
		if sep != "" {
			fields = strings.Split(line, sep)
		}
		i := int(index)
		if i < 0 {
			i += len(fields)
		}
		want := fmt.Sprint(Bad)
		switch {
		case len(fields) == 0 || sep != "" && line == "":
			want = fmt.Sprint(Blank)
		case i >= 0 && i < len(fields):
			want = fmt.Sprint(Data, fields[i])
		}
		got := fmt.Sprint(kind)
		if kind == Data {
			got = fmt.Sprint(kind, string(s.Values[0]))
		}
		if got != want {
			t.Fatalf("%q, sep %q, field %d: got %s, want %s", line, sep, index, got, want)
		}
	})
}
