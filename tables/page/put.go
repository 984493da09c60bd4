package page

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/engine/spill"
	"github.com/go-partd/partd/internal/jobs/records"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/operations"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

var maxUpload int64 = 16 << 30 // maximum size of a file, in bytes; a variable for tests

func parseMode(mode string) (tables.PutMode, error) {
	m, ok := operations.PutModes[mode]
	if !ok {
		return 0, invalid("mode is %.40q: it must be error, append or replace", mode)
	}
	return m, nil
}

// setText sets each text option to the parameter with its name. It returns the options that it has set, as flags.
func setText(o *records.TextOptions, parameters url.Values) (flags []string, err error) {
	for _, option := range formats.Options(o) {
		for _, value := range parameters[option.Name] {
			if value == "" {
				continue
			}
			if err := option.Value.Set(value); err != nil {
				return nil, invalid("%s: %v", option.Name, err)
			}
			flags = append(flags, "--"+option.Name+"="+value)
		}
	}
	return flags, nil
}

// put first stores the upload in an unnamed temporary file, because the types of text columns are known only after the
// whole file has been read.
func (h *handler) put(q *request) error {
	bucket, table, err := q.names()
	p := q.URL.Query()
	dry, right := q.isDryRun()
	mode, modeErr := parseMode(cmp.Or(p.Get("mode"), "error"))
	err = cmp.Or(err, modeErr, q.Caller.CheckAccess(right, bucket))
	if err != nil {
		return err
	}
	format, err := parseFormat(p, h.formats.Readable())
	if err != nil {
		return err
	}
	input := &formats.Input{Name: "the body", Format: format}
	if name := p.Get("file"); name != "" {
		input.Name = fmt.Sprintf("%.100s", strings.ToValidUTF8(name, "\ufffd")) // for errors
	}
	textFlags, err := setText(&input.TextOptions, p)
	if err != nil {
		return err
	}
	o := &tables.PutOptions{ID: p.Get("id")}
	keys, err := parseNames("keys", p.Get("keys"))
	if err != nil {
		return err
	}
	if settings := (tables.Settings{Time: p.Get("time"), Keys: keys}); settings.Time != "" || keys != nil {
		o.Settings = &settings
	}
	if dry {
		c := (&command{h: h}).add("put").locationFlags(&actionJSON{Bucket: bucket}).flag("mode", cmp.Or(p.Get("mode"), "error")).flag("format", input.Format.Name)
		c.add(textFlags...).flag("time", p.Get("time"))
		for _, key := range keys {
			c.flag("key", key)
		}
		c.names(table, cmp.Or(p.Get("file"), "-"))
		return q.replyCommand(c)
	}
	release, err := serving.AcquirePut(q.Ctx)
	if err != nil {
		return err
	}
	defer release()
	input.Known, err = h.knownColumns(q.Ctx, bucket, table, mode)
	if err != nil {
		return err
	}
	input.File, err = os.CreateTemp("", "partd-tables-")
	if err != nil {
		return err
	}
	upload := &spill.Writer{WriteCloser: input.File, Quota: &spill.Process}
	defer func() {
		_ = upload.Close() // closing deletes the unnamed file
		upload.Release()
	}()
	if err := os.Remove(input.File.Name()); err != nil {
		return err
	}
	if _, err := io.Copy(upload, http.MaxBytesReader(q.W, q.Body, maxUpload)); err != nil {
		return err
	}
	if _, err := input.File.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r, err := h.isolated.Read(q.Ctx, input)
	if err != nil {
		return asClientError(err)
	}
	defer r.Release()
	counted := &batches.Counted{RecordReader: r}
	v, err := h.store.Bucket(bucket).Table(table).Put(q.Ctx, counted, mode, o)
	if err != nil {
		if r.Err() != nil {
			err = asClientError(err)
		}
		return err
	}
	return q.reply(map[string]int64{"version": int64(v), "rows": counted.Rows})
}

// knownColumns returns the columns of the table to which rows are appended, or nil if the rows determine the columns.
// It returns an error if the mode does not allow that the table exists.
func (h *handler) knownColumns(ctx context.Context, bucket, table string, mode tables.PutMode) (*arrow.Schema, error) {
	existing, err := h.store.Bucket(bucket).Table(table).At(ctx)
	switch {
	case errors.Is(err, tables.ErrNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case mode == tables.PutError:
		return nil, kinds.Exists.Errorf("the table already exists: use mode=append or mode=replace")
	case mode == tables.PutAppend:
		return existing.Schema(ctx)
	}
	return nil, nil
}

// asClientError converts err to an error that blames the client's input, unless err is known to have another cause.
func asClientError(err error) error {
	if errors.As(err, new(*os.PathError)) || errors.As(err, new(*os.SyscallError)) {
		return err
	}
	return blame(err, "%s")
}
