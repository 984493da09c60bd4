package page

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// Write implements io.Writer. Each write has its own deadline.
func (q *request) Write(p []byte) (n int, err error) {
	q.hasBody = true
	err = q.runSend(func() error { n, err = q.W.Write(p); return err })
	return n, err
}

// runSend runs f, which sends data to the client. If the client stalls or the call ends, f fails.
func (q *request) runSend(f func() error) error {
	_ = q.Control.SetWriteDeadline(time.Now().Add(q.ReadTimeout))                           // fails only if the call has ended, and then so does f
	stop := serving.AfterFunc(q.Ctx, func() { _ = q.Control.SetWriteDeadline(time.Now()) }) // ends a blocked write
	defer stop()
	err := serving.Sending(q.Ctx, f)
	if err == nil {
		defer q.ClearDeadlines()
	}
	cause := context.Cause(q.Ctx)
	if errors.Is(err, os.ErrDeadlineExceeded) && (cause == nil || cause == context.Canceled) { //nolint:errorlint // Cause returns context.Canceled unwrapped
		return serving.ErrReceiving
	}
	return err
}

// stream answers with the rows of a statement, encoded in format f. It sends at most limit rows; 0 means all. v is the
// view for which the statement was built, or nil if the client wrote the statement.
func (h *handler) stream(q *request, f *formats.Format, sql string, o *tables.QueryOptions, limit int64, v *view) error {
	linesAbove := 0
	if v != nil {
		linesAbove, o.Nanoseconds = v.linesAboveInRows(), v.exact != nil
	}
	release, err := serving.AcquireQuery(q.Ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := h.store.Query(q.Ctx, sql, o)
	if err != nil {
		return asClientError(adjustLine(err, linesAbove))
	}
	if v != nil {
		r = v.restoreZones(r)
	}
	defer r.Release()
	return adjustLine(sendRows(q, f, r, limit), linesAbove)
}

// sendRows answers with the rows of r, encoded in format f. It sends at most limit rows; 0 means all. It sends nothing
// before the writer has encoded rows, so that an error until then is answered with its status.
func sendRows(q *request, f *formats.Format, r array.RecordReader, limit int64) (err error) {
	const buffered = 64 << 10 // bytes
	out := bufio.NewWriterSize(q, buffered)
	q.W.Header().Set("Content-Type", f.ContentType)
	w, err := f.Write(out, r.Schema(), formats.WriteOptions{Stream: true})
	if err != nil {
		return err
	}
	remaining := limit
	for batch := range batches.Rebatch(r, nil) {
		if n := batch.NumRows(); limit > 0 && n >= remaining {
			batch = batch.NewSlice(0, remaining)
			defer batch.Release()
		}
		remaining -= batch.NumRows()
		err := w.Write(batch)
		if err == nil && !f.IsDelayed {
			err = out.Flush()
			if err == nil {
				err = q.runSend(q.Control.Flush)
			}
		}
		if err != nil {
			return err
		}
		if limit > 0 && remaining == 0 {
			return closeRows(w, out)
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	return closeRows(w, out)
}

// closeRows closes w and sends the rest of its output.
func closeRows(w formats.Writer, out *bufio.Writer) error {
	if err := w.Close(); err != nil {
		return err
	}
	return out.Flush()
}

// adjustLine subtracts linesAbove, the number of lines before the client's text in a statement, from
// the line number in an error.
func adjustLine(err error, linesAbove int) error {
	var e *tables.SQLError
	if linesAbove == 0 || !errors.As(err, &e) || e.Line <= linesAbove {
		return err
	}
	return &tables.SQLError{Line: e.Line - linesAbove, Column: e.Column, Err: e.Err}
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9_-]{16,64}$`)

func checkID(id string) error {
	if !idPattern.MatchString(id) {
		return invalid("id must be random, and consist of 16 to 64 letters, digits, - and _")
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
	o, err := q.parseStatement(p)
	err = cmp.Or(err, checkID(c.ID))
	if err != nil {
		return err
	}
	if c.Limit < 0 {
		return invalid("limit is %d: it must not be negative", c.Limit)
	}
	if tables.IsWrite(c.SQL) {
		if err := q.Caller.CheckAccess(serving.Admin, c.Bucket); err != nil {
			return err
		}
		if o.At != nil || o.Before != nil {
			return invalid("a statement that writes cannot select a version or a snapshot")
		}
		return &kinds.Error{Kind: kinds.BadRequest, Text: "this request only reads: to run a statement that writes, use the action exec", Fields: kinds.Fields{Writes: true}}
	}
	q.cancellable(h, c.ID)
	return h.stream(q, formats.Arrow(), c.SQL, o, c.Limit, nil)
}

func (q *request) parseStatement(p url.Values) (*tables.QueryOptions, error) {
	at, err := parseState(p.Get("version"), p.Get("snapshot"))
	before, beforeErr := parseState(p.Get("before_version"), p.Get("before_snapshot"))
	o := &tables.QueryOptions{Bucket: p.Get("bucket"), At: at, Before: before}
	return o, cmp.Or(err, beforeErr, checkNames(o.Bucket), q.Caller.CheckAccess(serving.Read, o.Bucket))
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

// parseFormat returns the format that a request names.
func parseFormat(p url.Values, from formats.Set) (*formats.Format, error) {
	f, err := from.Find(p.Get("format"))
	if err != nil {
		return nil, invalid("format %v", err)
	}
	return f, nil
}

// changes answers with the result of Table.Changes. Headers contain the version to which the changes lead, and the
// table's UUID.
func (h *handler) changes(q *request) error {
	p := q.URL.Query()
	f, err := parseFormat(p, h.formats.Files())
	if err != nil {
		return err
	}
	s, err := h.selectTable(q)
	if err != nil {
		return err
	}
	since, sinceErr := parseState(p.Get("since"), p.Get("since_snapshot"))
	keys, err := parseNames("keys", p.Get("keys"))
	err = cmp.Or(err, sinceErr, h.useID(q))
	if err != nil {
		return err
	}
	release, err := serving.AcquireQuery(q.Ctx)
	if err != nil {
		return err
	}
	defer release()
	r, err := s.table.Changes(q.Ctx, since, &tables.ChangesOptions{Keys: keys, UUID: p.Get("uuid")})
	if err != nil {
		return err
	}
	defer r.Release()
	q.W.Header().Set("Partd-Version", strconv.FormatInt(int64(r.Version), 10))
	q.W.Header().Set("Partd-UUID", r.UUID)
	return sendRows(q, f, r, 0)
}

func (h *handler) download(q *request) error {
	p := q.URL.Query()
	f, err := parseFormat(p, h.formats.Files())
	if err != nil {
		return err
	}
	sql, name := p.Get("sql"), "query"
	o, err := q.parseStatement(p)
	if err != nil {
		return err
	}
	var v *view
	if sql == "" {
		v, err = h.parseView(q)
		if err == nil {
			err = h.keepNanoseconds(q, v)
		}
		if err != nil {
			return err
		}
		sql, name, o = v.rowsSQL(""), v.name, v.options()
	} else if p.Has("table") || p.Has("sort") || p.Has("filter") {
		return invalid("sql= cannot be combined with table=, sort= or filter=")
	}
	q.W.Header().Set("Content-Disposition", fmt.Sprintf(`attachment; filename="%s.%s"`, fileName(name), f.Name))
	return h.stream(q, f, sql, o, 0, v)
}

var unsafeCharacters = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// fileName replaces characters of a name that are not safe in file names on every system.
func fileName(name string) string {
	const maxLength = 100
	name = strings.Trim(unsafeCharacters.ReplaceAllString(name, "_"), "-")
	return cmp.Or(name[:min(len(name), maxLength)], "table")
}
