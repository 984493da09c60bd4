package page

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/formats"
	"github.com/go-partd/partd/tables/internal/messages"
)

// Write gives each write its time.
func (q *request) Write(p []byte) (n int, err error) {
	q.began = true
	err = q.sending(func() error { n, err = q.W.Write(p); return err })
	return n, err
}

// sending runs f, which waits for the client, until the call ends.
func (q *request) sending(f func() error) error {
	_ = q.Control.SetWriteDeadline(time.Now().Add(q.Idle))
	stop := context.AfterFunc(q.Ctx, func() { _ = q.Control.SetWriteDeadline(time.Now()) })
	defer stop()
	err := flightd.Sending(q.Ctx, f)
	cause := context.Cause(q.Ctx)
	if errors.Is(err, os.ErrDeadlineExceeded) && (cause == nil || cause == context.Canceled) { //nolint:errorlint // which the failure makes it itself
		return &problem{Status: http.StatusServiceUnavailable, Text: "the client took nothing for too long"}
	}
	return err
}

// stream answers with the rows of a statement in a format, of which it holds no
// more than a piece at a time. Limit 0 is all. Above is how many lines of the
// statement are not the client's.
func (h *handler) stream(q *request, f formats.Format, sql string, o *tables.QueryOptions, limit int64, above int) error {
	release, err := flightd.AcquireQuery(q.Ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := h.store.Query(q.Ctx, sql, o)
	if err != nil {
		return ofClient(lines(err, above))
	}
	defer r.Release()
	var w formats.Writer
	if f == formats.Arrow {
		q.W.Header().Set("Content-Type", "application/vnd.apache.arrow.stream")
		w = ipc.NewWriter(q, ipc.WithSchema(r.Schema()))
	} else if w, err = formats.NewWriter(f, q, r.Schema(), true); err != nil {
		return err
	}
	left := limit
	for part := range messages.Of(r) {
		if n := part.NumRows(); limit > 0 && n >= left {
			part = part.NewSlice(0, left)
			defer part.Release()
		}
		left -= part.NumRows()
		err := w.Write(part)
		if err == nil {
			err = q.sending(q.Control.Flush)
		}
		if err != nil {
			return err
		}
		if limit > 0 && left == 0 {
			return w.Close()
		}
	}
	if err := r.Err(); err != nil {
		return lines(err, above)
	}
	return w.Close()
}

// lines is an error whose place is counted in what the client wrote.
func lines(err error, above int) error {
	var at *tables.SQLError
	if above == 0 || !errors.As(err, &at) || at.Line <= above {
		return err
	}
	return &tables.SQLError{Line: at.Line - above, Column: at.Column, Err: at.Err}
}

var idForm = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)

func checkID(id string) error {
	if !idForm.MatchString(id) {
		return invalid("id has to be 16 to 64 of letters, digits, - and _, made up at random")
	}
	return nil
}

func (h *handler) query(q *request) error {
	var c struct {
		ID             string `json:"id"`
		SQL            string `json:"sql"`
		Bucket         string `json:"bucket"`
		Limit          int64  `json:"limit"`
		Version        *int64 `json:"version"`
		Snapshot       string `json:"snapshot"`
		BeforeVersion  *int64 `json:"before_version"`
		BeforeSnapshot string `json:"before_snapshot"`
	}
	if err := q.parse(&c); err != nil {
		return err
	}
	p := url.Values{"bucket": {c.Bucket}, "snapshot": {c.Snapshot}, "before_snapshot": {c.BeforeSnapshot}}
	for name, v := range map[string]*int64{"version": c.Version, "before_version": c.BeforeVersion} {
		if v != nil {
			p.Set(name, strconv.FormatInt(*v, 10))
		}
	}
	o, err := q.statement(p)
	if err = errors.Join(err, checkID(c.ID)); err != nil {
		return err
	}
	if c.Limit < 0 {
		return invalid("limit is %d, and cannot be negative", c.Limit)
	}
	q.cancellable(h, c.ID)
	return h.stream(q, formats.Arrow, c.SQL, o, c.Limit, 0)
}

// statement reads what a client's own statement is about.
func (q *request) statement(p url.Values) (*tables.QueryOptions, error) {
	at, err := stateOf(p.Get("version"), p.Get("snapshot"))
	before, late := stateOf(p.Get("before_version"), p.Get("before_snapshot"))
	o := &tables.QueryOptions{Bucket: p.Get("bucket"), At: at, Before: before}
	return o, errors.Join(err, late, checkNames(o.Bucket), q.Caller.MayUse(flightd.Read, o.Bucket))
}

func (h *handler) cancel(q *request) error {
	var c struct {
		ID string `json:"id"`
	}
	if err := q.parse(&c); err != nil {
		return err
	}
	if err := checkID(c.ID); err != nil {
		return err
	}
	return q.reply(map[string]bool{"cancelled": h.server.Cancel(c.ID)})
}

func (h *handler) download(q *request) error {
	p := q.URL.Query()
	f := formats.Format(p.Get("format"))
	types := map[formats.Format]string{
		formats.CSV: "text/csv; charset=utf-8", formats.JSONL: "application/jsonl", formats.Parquet: "application/vnd.apache.parquet", formats.Arrow: "",
	}
	kind, ok := types[f]
	if !ok {
		return invalid("format is %.40q, must be one of csv, jsonl, parquet and arrow", f)
	}
	sql, name, above := p.Get("sql"), "query", 0
	o, err := q.statement(p)
	if err != nil {
		return err
	}
	if sql == "" {
		v, err := h.viewOf(q)
		if err != nil {
			return err
		}
		sql, name, above, o = "SELECT *"+v.from("")+v.order(false), v.name, v.above(), v.options()
	} else if p.Has("table") || p.Has("sort") || p.Has("filter") {
		return invalid("sql excludes table, sort and filter")
	}
	q.W.Header().Set("Content-Type", kind)
	q.W.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.%s"`, fileName(name), f))
	return h.stream(q, f, sql, o, 0, above)
}

var unsafeName = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// fileName is what is left of a name that means nothing to any system.
func fileName(name string) string {
	const most = 100
	name = strings.Trim(unsafeName.ReplaceAllString(name, "_"), "-")
	return cmp.Or(name[:min(len(name), most)], "table")
}
