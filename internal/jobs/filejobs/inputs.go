package filejobs

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/internal/jobs/zfile"
)

// Stdin is the file name that stands for standard input.
const Stdin = records.Stdin

// Inputs are the opened and checked input files.
type Inputs struct {
	Files      []records.Input
	Columns    []string     // column names from the header, nil without a header
	Size       int64        // total size on disk in bytes, -1 if unknown
	BytesRead  atomic.Int64 // bytes read, before decompression
	header     []byte
	firstBytes []byte // the beginning of the first file that is not empty
	hasPacked  bool   // a file is compressed

	mergeWindow int // for a merge, twice the maximum zstd window of an input; otherwise 0

	otherSep string // in a join, the other file's separator if that file has several columns, so --sep must not change; otherwise ""
}

// OpenInputs checks that each file is readable, and that all have the same header. It reads
// only the beginning of each file. It returns when ctx ends, even while it waits for a pipe's writer. The caller must then
// not use the inputs, because a goroutine may still change them.
func OpenInputs(ctx context.Context, stdin *os.File, names []string, layout records.Layout, maxRecord int) (*Inputs, error) {
	in := &Inputs{}
	if err := records.CheckStreams(stdin, names...); err != nil {
		return in, &OptionError{err}
	}
	firstName := "" // name of the first file with a header
	for _, name := range names {
		if err := canceled.Err(ctx); err != nil {
			return in, err
		}
		start, err := canceled.Run(ctx, func() (*records.Start, error) { return in.open(stdin, name, layout, maxRecord) })
		if err != nil {
			return in, err
		}
		if len(in.firstBytes) == 0 {
			in.firstBytes = start.Read
		}
		if start.Columns == nil {
			continue
		}
		if firstName == "" {
			firstName, in.Columns, in.header = name, start.Columns, start.Header
		} else if diff := records.DiffColumns(in.Columns, start.Columns); diff != "" {
			return in, fmt.Errorf("%s and %s have different headers: %s", firstName, name, diff)
		}
	}
	return in, nil
}

// Columns returns a file's column names. The header must be in the first limit bytes. Columns
// returns nil for pipes and other special files.
func Columns(name string, layout records.Layout, limit int) ([]string, error) {
	// Opening a pipe would wait for a writer.
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() {
		return nil, err
	}
	in := &Inputs{}
	start, err := in.open(nil, name, layout, limit)
	if err != nil {
		return nil, err
	}
	return start.Columns, nil
}

// numberColumns names unnamed columns by their numbers, from 1. Output as JSON lines needs names.
func (in *Inputs) numberColumns(l records.Layout) {
	if l.HasHeader() || l.Format == records.JSONL {
		return
	}
	for i := range in.firstFieldCount(l) {
		in.Columns = append(in.Columns, strconv.Itoa(i+1))
	}
}

// firstFieldCount returns the number of fields in the first record of files without a header, or 0 if it is unknown.
func (in *Inputs) firstFieldCount(l records.Layout) int {
	data := bytes.TrimPrefix(in.firstBytes, []byte(records.ByteOrderMark))
	if len(in.firstBytes) < records.StartSize { // the file's last newline may be missing
		data = append(data[:len(data):len(data)], '\n')
	}
	return fieldCount(l, data)
}

// Select calls the function Select for the inputs' columns. Its errors name the first file.
func (in *Inputs) Select(layout, to records.Layout, condition, columns string) (*Selection, error) {
	return Select(layout, to, in.Columns, condition, columns, func(flag, value string, err error) error { return in.FieldError(flag, value, layout, err) })
}

// SeparatorHint returns a hint for the end of a message if the first line has a single field,
// which suggests that the separator is wrong. Otherwise it returns "".
func (in *Inputs) SeparatorHint(l records.Layout) string {
	line, _, _ := strings.Cut(string(in.firstBytes), "\n")
	current, flags := cmp.Or(string(l.Separator()), " \t"), "--sep "
	if l.Format == records.TSV {
		flags = "--format csv --sep "
	}
	if l.Format == records.JSONL || strings.ContainsAny(strings.TrimSpace(line), current) {
		return ""
	}
	for _, sep := range []string{";", "\t", "|", ","} {
		quotedSep := textfmt.ShellQuote(strings.ReplaceAll(sep, "\t", `\t`))
		if strings.Contains(line, sep) && in.otherSep != "" {
			return fmt.Sprintf(" (wrong separator? the other file has %q: first rewrite this file, for example by partd sort --by 1 --format csv --sep %s --to-sep %s)",
				in.otherSep, quotedSep, textfmt.ShellQuote(strings.ReplaceAll(in.otherSep, "\t", `\t`)))
		}
		if strings.Contains(line, sep) {
			return fmt.Sprintf(" (wrong separator? try %s%s)", flags, quotedSep)
		}
	}
	return ""
}

// Warnings returns a warning if the records have one field, but would have more with another
// separator, or if the header looks like data.
func (in *Inputs) Warnings(l records.Layout) []string {
	if !l.HasHeader() {
		return nil
	}
	if i := records.DataInFirstRecord(in.firstBytes, l, in.Columns); i >= 0 {
		return []string{fmt.Sprintf("%s: the first record was read as the header, but its field %d, %q, looks like data: if it is data, add --no-header",
			in.Files[0].Name, i+1, in.Columns[i])}
	}
	if hint := in.SeparatorHint(l); hint != "" && in.Columns != nil {
		return []string{"the records have a single field" + hint}
	}
	return nil
}

// SkipHint adds advice to an error about a bad record: use --skip-bad or another separator.
func (in *Inputs) SkipHint(err error, l records.Layout) error {
	if errors.As(err, new(*records.BadError)) {
		return fmt.Errorf("%w%s (add --skip-bad to skip and count such records)", err, in.SeparatorHint(l))
	}
	return err
}

// CheckSkipped returns an error if no record is valid. Without a header, the first record determines the number
// of fields, so it does not count as valid if all later records were bad.
func (in *Inputs) CheckSkipped(t *records.Tally, l records.Layout) error {
	valid := t.Records + t.Dropped
	// The number of fields of a bad record is wrong only in comparison with an earlier valid record.
	isOnlyFirst := valid == 1 && l.NoHeader && errors.As(t.FirstBadErr, new(*records.CountError))
	if t.BadRecords == 0 || valid > 0 && !isOnlyFirst {
		return nil
	}
	subject := map[bool]string{true: "only the first", false: "no"}[isOnlyFirst]
	return fmt.Errorf("%s record is valid%s, and %s; the first: %v", subject, in.SeparatorHint(l), textfmt.Plural(t.BadRecords, "bad record"), t.FirstBadErr)
}

// open checks a file and returns its beginning. It leaves pipes open: they can be read only once.
func (in *Inputs) open(stdin *os.File, name string, layout records.Layout, maxRecord int) (*records.Start, error) {
	file := records.Input{Name: name, Size: -1}
	f := stdin
	if name != Stdin {
		var err error
		f, err = os.Open(name)
		if err != nil {
			return nil, err
		}
	} else {
		file.Name = "standard input"
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		_ = f.Close() // it was not read
		return nil, fmt.Errorf("%s is a directory: name its files, for example %s", name, filepath.Join(name, "*"))
	}
	if name != Stdin && info.Mode().IsRegular() {
		if in.Size >= 0 {
			in.Size += info.Size()
		}
		r, err := open(file.Name, f, layout.Encoding, maxRecord)
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		in.hasPacked = in.hasPacked || r.packed
		file.Encoding, layout.Encoding = r.encoding, r.encoding
		if !r.packed && r.encoding == "" {
			file.Size = info.Size()
		}
		file.Open = func() (io.ReadCloser, error) {
			return in.reopen(name, info.Size(), r.encoding, cmp.Or(in.mergeWindow, maxRecord))
		}
		start, err := records.ReadStart(file.Name, r, layout, maxRecord)
		in.Files = append(in.Files, file)
		return start, errors.Join(err, r.Close(), f.Close())
	}
	in.Size = -1
	r, err := open(file.Name, &rawFile{file: f, total: &in.BytesRead}, layout.Encoding, maxRecord)
	if err != nil {
		return nil, err
	}
	file.Encoding, layout.Encoding = r.encoding, r.encoding
	start, err := records.ReadStart(file.Name, r, layout, maxRecord)
	if err != nil {
		return nil, err
	}
	file.Open = func() (io.ReadCloser, error) {
		return content{Reader: io.MultiReader(bytes.NewReader(start.Read), r), close: f.Close}, nil
	}
	in.Files = append(in.Files, file)
	return start, nil
}

// reopen opens a file to read all of it. size is the file's size when it was checked. Close
// returns an error if the reader reached the end of the file before or after size bytes.
func (in *Inputs) reopen(name string, size int64, encoding string, maxRecord int) (io.ReadCloser, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	raw := &rawFile{file: f, total: &in.BytesRead}
	r, err := open(name, raw, encoding, maxRecord)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return content{Reader: r, close: func() error {
		err := errors.Join(r.Close(), f.Close())
		if err == nil && raw.atEOF && raw.n != size {
			return &records.Error{File: name, Err: fmt.Errorf(
				"the file changed during reading: it had %d bytes, but %d were read", size, raw.n)}
		}
		return err
	}}, nil
}

// rawFile counts the bytes read from a file, before decompression.
type rawFile struct {
	file  *os.File
	total *atomic.Int64 // counts the bytes read from all files
	n     int64
	atEOF bool
}

func (r *rawFile) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	r.n += int64(n)
	r.total.Add(int64(n))
	r.atEOF = r.atEOF || err == io.EOF
	return n, err
}

type content struct {
	io.Reader
	close    func() error
	packed   bool   // the file is compressed
	encoding string // see [records.Input]
}

func (c content) Close() error { return c.close() }

// open returns the content of a file in UTF-8. It detects compression from the first bytes, and
// returns an error if the file's extension contradicts them.
func open(name string, f io.Reader, encoding string, maxRecord int) (content, error) {
	stream := bufio.NewReader(f)
	head, err := stream.Peek(zfile.HeadSize)
	if err != nil && err != io.EOF {
		return content{}, err
	}
	format, nameFormat := zfile.Detect(head), zfile.FormatOf(name)
	c := content{close: func() error { return nil }}
	if format != zfile.None {
		r, err := zfile.NewReader(name, format, stream, int64(maxRecord/2)) // limits a zstd window to an eighth of the job's memory
		if err != nil {
			return content{}, err
		}
		format, stream, c = r.Format(), bufio.NewReader(r), content{close: r.Close, packed: true}
	}
	if nameFormat != zfile.None && format != nameFormat {
		err = fmt.Errorf("the extension means %s, but the content has another format", nameFormat)
	} else {
		c.Reader, c.encoding, err = records.Decode(stream, encoding)
	}
	if err != nil {
		return content{}, errors.Join(&records.Error{File: name, Err: err}, c.Close())
	}
	return c, nil
}
