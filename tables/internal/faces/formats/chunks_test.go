package formats

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/jobs/records"
)

func setChunks(t testing.TB, size int) {
	old := chunkBytes
	chunkBytes = size
	t.Cleanup(func() { chunkBytes = old })
}

// sequential returns the expected result of content. It reads the text twice, record by record, without
// chunks or goroutines.
func sequential(t testing.TB, in *Input, content string) (string, error) {
	t.Helper()
	open := func() (rows, *column, error) {
		root := newColumn("")
		text := []byte(strings.TrimPrefix(content, "\ufeff"))
		if in.Format.Name == "jsonl" {
			return &lines{in: in, remaining: text}, root, nil
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		layout := records.Layout{Format: records.CSV}
		header := records.NewFieldSplitter(layout, nil)
		header.Begin()
		header.Feed(text, true)
		if err := (&csvRows{in: in, split: header}).next(); err == io.EOF {
			return nil, nil, errors.New("the file is empty")
		} else if err != nil {
			return nil, nil, err
		}
		for i, name := range header.Columns {
			if slices.Index(header.Columns, name) < i || name == "" {
				return nil, nil, fmt.Errorf("x.csv, line 1: column %d has the name %q", i+1, name)
			}
			root.fields = append(root.fields, newColumn(name))
		}
		c := &csvRows{in: in, split: records.NewFieldSplitter(layout, header.Columns), names: header.Columns}
		c.linesBefore = int64(bytes.Count(text[:header.Pos()], []byte("\n")))
		c.split.Feed(text[header.Pos():], true)
		return c, root, nil
	}
	first, root, err := open()
	if err != nil {
		return "", err
	}
	if err := first.inferColumns(root); err != nil {
		return "", err
	}
	if len(root.fields) == 0 {
		return "", fmt.Errorf("%s: the file contains no object with a column", in.Name)
	}
	schema, err := schemaOf(root.fields, in.Known)
	if err != nil {
		return "", fmt.Errorf("%s: %w", in.Name, err)
	}
	all, _, err := open()
	if err != nil {
		return "", err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	to := newFields("column", schema.Fields(), b.Field)
	for err == nil {
		_, err = all.add(to)
	}
	if err != io.EOF {
		return "", err
	}
	batch := b.NewRecordBatch()
	defer batch.Release()
	var out bytes.Buffer
	for _, f := range schema.Fields() {
		fmt.Fprintf(&out, "%s %s, ", f.Name, f.Type)
	}
	out.WriteString("\n")
	w, err := JSONL().Write(&out, schema, WriteOptions{})
	if err != nil {
		return "", err
	}
	err = w.Write(batch)
	return out.String(), err
}

// oneOf returns one of texts at random. rare is the number of texts at the end that it is unlikely to return.
func oneOf(r *rand.Rand, rare int, texts ...string) string {
	if r.IntN(40) > 0 {
		texts = texts[:len(texts)-rare]
	}
	return texts[r.IntN(len(texts))]
}

func randomCSV(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString(oneOf(r, 1, "", "\ufeff", "\n", "\r\n\n", "\"\n"))
	width, end := 1+r.IntN(3), oneOf(r, 0, "\n", "\r\n")
	b.WriteString(oneOf(r, 2, "a", "\"a\"", "\"a\n\"\"é\"", "", "b"))
	for i := 1; i < width; i++ {
		fmt.Fprintf(&b, ",%c", 'a'+i)
	}
	b.WriteString(end)
	kind := make([]int, width)
	for i := range kind {
		kind[i] = r.IntN(5)
	}
	for range r.IntN(60) {
		for i := range width + r.IntN(80)/79 {
			if i > 0 {
				b.WriteString(",")
			}
			switch kind[i%width] {
			case 0:
				fmt.Fprint(&b, r.IntN(2000)-1000, oneOf(r, 2, "", "", "", ".5", "x"))
			case 1:
				fmt.Fprintf(&b, "2026-01-%02d%s", 1+r.IntN(28), oneOf(r, 3, "", " 12:00:00", "T12:00:00.1234567", "Z"))
			case 2:
				b.WriteString(oneOf(r, 1, "true", "false", "", "1"))
			case 3:
				b.WriteString(oneOf(r, 4, "", "\"\"", "\"x\ny\"", "\"\r\n\"\"\n\"", "x\"y", "\"a,b\"", strings.Repeat("long ", 30), "\"x\"y", "\"x", "\xff", "\"\n\xff\""))
			default:
				fmt.Fprintf(&b, "\"%d\"", r.IntN(10))
			}
		}
		b.WriteString(oneOf(r, 2, end, end, end, end+end, "\n \n", "\r"))
	}
	return strings.TrimSuffix(b.String(), oneOf(r, 0, end, " "))
}

func randomJSON(r *rand.Rand) string {
	var b strings.Builder
	var value func(depth int) string
	value = func(depth int) string {
		switch n := r.IntN(12); {
		case n == 0 && depth < 3:
			return "[" + value(depth+1) + oneOf(r, 2, ",", " , ", ",,", "") + value(depth+1) + "]"
		case n == 1 && depth < 3:
			return `{"` + oneOf(r, 1, "x", "y", "z", "\\ud800") + `":` + value(depth+1) + "}"
		}
		return oneOf(r, 8, "1", "2", "-3", "1.5", "null", "1e3", `"NaN"`, `"2026-01-31"`, `"\u00e9\n"`, "true", "01", "\"\xff\"", "\"\x01\"", `"\x"`, "nul", "{}", "[]", `"x`)
	}
	kinds := []string{`"é, \"q\""`, "true", "17", `"2026-01-31T12:00:00.1234567Z"`, "[1, null]", `{"p":1,"q":"x"}`, "null"}
	for range r.IntN(60) {
		b.WriteString(oneOf(r, 3, "", "", " ", "\n", "\ufeff", "[", "x"))
		b.WriteString("{")
		for i := range r.IntN(5) {
			if i > 0 {
				b.WriteString(oneOf(r, 1, ",", ", ", ""))
			}
			n := r.IntN(9)
			text := kinds[n%len(kinds)]
			if text == "[1, null]" {
				text = oneOf(r, 1, text, "[2.5, 1]", "[]", "[true]")
			}
			if r.IntN(100) == 0 {
				text = value(0)
			}
			fmt.Fprintf(&b, "\"%c%d\"%s%s", 'a'+n, i, oneOf(r, 1, ":", " : ", ""), text)
		}
		b.WriteString(oneOf(r, 3, "}\n", "} \r\n", "}\n\n", "}\n\u00a0\n", "\n", "} x\n", "},\n"))
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// TestChunksChangeNothing checks that rows, types and errors do not depend on the size of chunks.
func TestChunksChangeNothing(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	known := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int8, Nullable: true}, {Name: "e2", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	oldFewColumns, failures := fewColumns, 0
	defer func() { fewColumns = oldFewColumns }()
	for round := range 600 {
		name, text := "x.csv", randomCSV(r)
		if round%2 > 0 {
			name, text = "x.jsonl", randomJSON(r)
		}
		if strings.HasPrefix(strings.TrimSpace(strings.TrimPrefix(text, "\ufeff")), "[") {
			continue // an array, which sequential does not read
		}
		in := fileOf(t, name, text)
		if r.IntN(4) == 0 {
			in.Known = known
		}
		want, wantErr := sequential(t, in, text)
		if wantErr != nil {
			failures++
		}
		for _, size := range []int{4, 4 + r.IntN(200), 1 << 20} {
			setChunks(t, size)
			fewColumns = oldFewColumns * r.IntN(2)
			got, err := content(t, in)
			switch {
			case (err == nil) != (wantErr == nil), err != nil && !strings.Contains(err.Error(), wantErr.Error()), err == nil && got != want:
				t.Fatalf("seed %d, round %d, chunks of %d bytes: %q:\n%s, %v, want\n%s, %v", seed, round, size, text, got, err, want, wantErr)
			}
		}
		_ = in.File.Close()
	}
	if failures < 60 || failures > 500 {
		t.Errorf("%d of 600 random texts were invalid, want a mixture", failures)
	}
}
