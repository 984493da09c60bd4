package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/go-partd/partd/internal/testutil/benchdata"
)

// input is an input file, or the tables of a db-benchmark question.
type input struct {
	name   string // name in reports
	path   string
	isText bool // the fields are separated by runs of blanks, and there is no header; false for CSV
	header string
	keys   int64 // number of keys of a generated input
	dist   string

	keyColumn, values, sum string // names or numbers of columns, as in partd's flags
	// Column numbers from 1, or -1 for the last column. sumNumber is 0 if the job only counts rows.
	keyNumber, valueNumber, sumNumber int

	bytes    int64
	expected expectedOutputs

	tables []*table // tables of the db-benchmark
	answer *answer  // the answer to the question, or nil until it is computed
}

func (src *input) extension() string {
	if src.isText {
		return ".txt"
	}
	return ".csv"
}

func (f *flags) inputs() (inputs []*input, err error) {
	if f.file != "" {
		return []*input{{
			name: filepath.Base(f.file), path: f.file, isText: f.isText(),
			keyColumn: f.by, values: f.values, sum: f.sum,
		}}, nil
	}
	for text := range strings.SplitSeq(f.keys, ",") {
		keys, err := strconv.ParseInt(text, 10, 64)
		if err != nil || keys < 1 {
			return nil, fmt.Errorf("--keys %q is not a list of numbers such as 1000,100000", f.keys)
		}
		inputs = append(inputs, f.generatedInput(int64(f.bytes), keys))
	}
	return inputs, nil
}

func (f *flags) isText() bool {
	return f.format == "text" || f.format == "" && filepath.Ext(f.file) != ".csv"
}

func (f *flags) generatedInput(size, keys int64) *input {
	src := &input{
		keys: keys, dist: f.dist, bytes: size,
		keyColumn: "key", values: "text", sum: cmp.Or(f.sum, "v1"),
		path: filepath.Join(f.dir, fmt.Sprintf("rows-%d-%d-%s-%d.csv", size, keys, f.dist, f.seed)),
	}
	src.name = fmt.Sprintf("%s keys, %s", humanize.Comma(keys), f.dist)
	return src
}

// rowBytes is the average length of a generated row.
const rowBytes = 105

// prepare creates the input unless it exists. It then reads the input to compute the digests of
// correct outputs, which also loads the input into the page cache.
func (f *flags) prepare(src *input) error {
	if f.format != "" && f.format != "text" && f.format != "csv" {
		return fmt.Errorf("unknown --format %q: use csv or text", f.format)
	}
	if src.keys > 0 {
		if err := generate(src, f.seed); err != nil {
			return err
		}
	} else if src.keyColumn == "" {
		return errors.New("--file needs --by")
	} else if src.isText && src.sum != "" {
		return errors.New("--sum works only with CSV files: omit it to count the rows of a text file")
	}
	path, err := filepath.Abs(src.path)
	if err != nil {
		return err
	}
	src.path = path
	s, err := os.Open(src.path)
	if err != nil {
		return err
	}
	defer s.Close()
	r := bufio.NewReaderSize(s, 1<<20)
	if !src.isText {
		if src.header, err = r.ReadString('\n'); err != nil {
			return fmt.Errorf("%s: reading the header line: %w", src.path, err)
		}
		src.header = strings.TrimSuffix(src.header, "\n")
	}
	for _, c := range []struct {
		name   string
		number *int
	}{{src.keyColumn, &src.keyNumber}, {src.values, &src.valueNumber}, {src.sum, &src.sumNumber}} {
		if *c.number, err = src.column(c.name); err != nil {
			return err
		}
	}
	info, err := s.Stat()
	if err != nil {
		return err
	}
	src.bytes = info.Size()
	src.expected, err = src.expectedDigests(r)
	return err
}

// column returns the number of the column with the given name or number.
func (src *input) column(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if !src.isText {
		if i := slices.Index(strings.Split(src.header, ","), name); i >= 0 {
			return i + 1, nil
		}
	}
	n, err := strconv.Atoi(name)
	if err != nil || n == 0 || n < 0 && !(src.isText && n == -1) {
		return 0, fmt.Errorf("%s has no field %q: use a name or a number, or -1 for the last field of text", src.path, name)
	}
	return n, nil
}

func generate(src *input, seed uint64) error {
	return ensureFile(src.path, func(w *os.File) error {
		return benchdata.WriteCSV(w, benchdata.CSVOptions{Rows: src.bytes / rowBytes, Keys: src.keys, Dist: src.dist, Seed: seed})
	})
}

// ensureFile creates a file with fill, unless it exists. The file appears only when it is complete.
func ensureFile(path string, fill func(*os.File) error) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	w, err := os.Create(path + ".part")
	if err != nil {
		return err
	}
	if err = errors.Join(fill(w), w.Close()); err != nil {
		return errors.Join(err, os.Remove(w.Name()))
	}
	return os.Rename(w.Name(), path)
}

var errQuotes = errors.New("has quotes, which awk and sort do not support")

func (src *input) expectedDigests(r io.Reader) (expectedOutputs, error) {
	e := newExpectedBuilder(src)
	err := eachLine(r, func(line []byte) error {
		if !src.isText && bytes.IndexByte(line, '"') >= 0 {
			return fmt.Errorf("%s %w", src.path, errQuotes)
		}
		return e.add(line)
	})
	return e.result(), err
}

// eachLine calls handle for each line, without its newline. Lines may have any length. A line
// is valid only until handle returns.
func eachLine(r io.Reader, handle func(line []byte) error) error {
	b := bufio.NewReaderSize(r, 1<<20)
	var longLine []byte
	for {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			longLine = append(longLine, line...)
			continue
		}
		if err != nil && err != io.EOF {
			return err
		}
		if len(longLine) > 0 {
			longLine = append(longLine, line...)
			line = longLine
			longLine = longLine[:0]
		}
		if len(line) > 0 {
			if e := handle(bytes.TrimSuffix(line, []byte{'\n'})); e != nil {
				return e
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// field returns a row's field in the given column and reports whether the row has it.
func (src *input) field(line []byte, column int) ([]byte, bool) {
	if !src.isText {
		for ; column > 1; column-- {
			comma := bytes.IndexByte(line, ',')
			if comma < 0 {
				return nil, false
			}
			line = line[comma+1:]
		}
		if comma := bytes.IndexByte(line, ','); comma >= 0 {
			line = line[:comma]
		}
		return line, true
	}
	const blanks = " \t\r\v\f"
	if column < 0 {
		line = bytes.TrimRight(line, blanks)
		line = line[bytes.LastIndexAny(line, blanks)+1:]
		return line, len(line) > 0
	}
	for ; ; column-- {
		line = bytes.TrimLeft(line, blanks)
		end := bytes.IndexAny(line, blanks)
		if end < 0 {
			end = len(line)
		}
		if column == 1 || end == 0 {
			return line[:end], column == 1 && end > 0
		}
		line = line[end:]
	}
}
