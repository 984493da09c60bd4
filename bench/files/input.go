package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/go-partd/partd/internal/csvgen"
)

// input is an input file, or the tables of a question.
type input struct {
	name   string // for reports
	path   string
	text   bool // fields separated by runs of blanks, without a header; otherwise CSV
	header string
	keys   int64 // the number of keys of a generated input
	dist   string

	by, values, sum string // column names, as in partd's flags
	// Column numbers from 1, or -1 for the last column; sumColumn is 0 if nothing is summed.
	key, value, sumColumn int

	bytes int64
	want  expected // computed by this program from the input

	tables []*table // of the db-benchmark
	answer *answer  // the answer to the question, or nil until it is computed
}

func (in *input) extension() string {
	if in.text {
		return ".txt"
	}
	return ".csv"
}

// inputs returns the inputs that the flags select.
func (f *flags) inputs() (all []*input) {
	if f.file != "" {
		return []*input{{
			name: filepath.Base(f.file), path: f.file, text: f.isText(),
			by: f.by, values: f.values, sum: f.sum,
		}}
	}
	for _, keys := range f.keys {
		all = append(all, f.generatedInput(int64(f.bytes), keys))
	}
	return all
}

func (f *flags) isText() bool {
	return f.format == "text" || f.format == "" && filepath.Ext(f.file) != ".csv"
}

func (f *flags) generatedInput(size, keys int64) *input {
	in := &input{
		keys: keys, dist: f.dist, bytes: size,
		by: "key", values: "text", sum: f.sum,
		path: filepath.Join(f.dir, fmt.Sprintf("rows-%d-%d-%s-%d.csv", size, keys, f.dist, f.seed)),
	}
	if in.sum == "" {
		in.sum = "v1"
	}
	in.name = fmt.Sprintf("%s keys, %s", withCommas(keys), f.dist)
	return in
}

// rowBytes is the average length of a generated row.
const rowBytes = 105

// prepare creates the input unless it exists. It then reads the input, to load it into the
// page cache and to compute the expected digests.
func (f *flags) prepare(in *input) error {
	if f.format != "" && f.format != "text" && f.format != "csv" {
		return fmt.Errorf("unknown --format %q: use csv or text", f.format)
	}
	if in.keys > 0 {
		if err := generate(in, f.seed); err != nil {
			return err
		}
	} else if in.by == "" {
		return errors.New("--file needs --by")
	} else if in.text && in.sum != "" {
		return errors.New("--sum works only with csv; text is only counted")
	}
	path, err := filepath.Abs(in.path)
	if err != nil {
		return err
	}
	in.path = path
	s, err := os.Open(in.path)
	if err != nil {
		return err
	}
	defer s.Close()
	r := bufio.NewReaderSize(s, 1<<20)
	if !in.text {
		if in.header, err = r.ReadString('\n'); err != nil {
			return fmt.Errorf("%s: reading its first line: %w", in.path, err)
		}
		in.header = strings.TrimSuffix(in.header, "\n")
	}
	for _, c := range []struct {
		name string
		to   *int
	}{{in.by, &in.key}, {in.values, &in.value}, {in.sum, &in.sumColumn}} {
		if *c.to, err = in.column(c.name); err != nil {
			return err
		}
	}
	info, err := s.Stat()
	if err != nil {
		return err
	}
	in.bytes = info.Size()
	in.want, err = in.expectedDigests(r)
	return err
}

// column returns the number of the column with the given name or number.
func (in *input) column(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if !in.text {
		for i, h := range strings.Split(in.header, ",") {
			if h == name {
				return i + 1, nil
			}
		}
	}
	n, err := strconv.Atoi(name)
	if err != nil || n == 0 || n < 0 && !(in.text && n == -1) {
		return 0, fmt.Errorf("%s has no field %q: use a name or a number, or -1 for the last field of text", in.path, name)
	}
	return n, nil
}

// generate creates the file unless it exists.
func generate(in *input, seed uint64) error {
	if _, err := os.Stat(in.path); err == nil {
		return nil
	}
	part := in.path + ".part"
	w, err := os.Create(part)
	if err != nil {
		return err
	}
	err = csvgen.Write(w, csvgen.Options{Rows: in.bytes / rowBytes, Keys: in.keys, Dist: in.dist, Seed: seed})
	if err = errors.Join(err, w.Close()); err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Rename(part, in.path)
}

var errQuotes = errors.New("has quotes, which awk and sort do not understand")

// expectedDigests reads all rows and returns the digests of correct outputs.
func (in *input) expectedDigests(r io.Reader) (expected, error) {
	e := newExpectedBuilder(in)
	err := eachLine(r, func(line []byte) error {
		if !in.text && bytes.IndexByte(line, '"') >= 0 {
			return fmt.Errorf("%s %w", in.path, errQuotes)
		}
		return e.add(line)
	})
	return e.end(), err
}

// eachLine calls use with each line, of any length, without its newline. The line is valid
// until use returns.
func eachLine(r io.Reader, use func(line []byte) error) error {
	b := bufio.NewReaderSize(r, 1<<20)
	var long []byte
	for {
		line, err := b.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			long = append(long, line...)
			continue
		}
		if err != nil && err != io.EOF {
			return err
		}
		if len(long) > 0 {
			long = append(long, line...)
			line = long
			long = long[:0]
		}
		if len(line) > 0 {
			if e := use(bytes.TrimSuffix(line, []byte{'\n'})); e != nil {
				return e
			}
		}
		if err == io.EOF {
			return nil
		}
	}
}

// field returns a field of a row, and reports whether the row has it.
func (in *input) field(line []byte, column int) ([]byte, bool) {
	if !in.text {
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
