package page

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/flightd"
)

// problem is an error as clients get it.
type problem struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
}

func (p *problem) Error() string { return p.Text }

// GRPCStatus is the problem as the server's figures count it.
func (p *problem) GRPCStatus() *status.Status {
	code := codes.InvalidArgument
	for c, s := range statuses {
		if s == p.Status && c != codes.Aborted && c != codes.DeadlineExceeded {
			code = c
		}
	}
	return status.New(code, p.Text)
}

func invalid(format string, args ...any) error {
	return &problem{Status: http.StatusBadRequest, Text: fmt.Sprintf(format, args...)}
}

const statusCancelled = 499 // as others call it: the client wanted no answer any more

var statuses = map[codes.Code]int{
	codes.InvalidArgument: http.StatusBadRequest, codes.Unauthenticated: http.StatusUnauthorized, codes.PermissionDenied: http.StatusForbidden,
	codes.NotFound: http.StatusNotFound, codes.AlreadyExists: http.StatusConflict, codes.Aborted: http.StatusConflict,
	codes.ResourceExhausted: http.StatusTooManyRequests, codes.Canceled: statusCancelled, codes.Unimplemented: http.StatusNotImplemented,
	codes.Unavailable: http.StatusServiceUnavailable, codes.DeadlineExceeded: http.StatusServiceUnavailable,
}

// problemOf finds what to tell of an error.
func problemOf(err error) *problem {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p
	}
	p := &problem{Status: http.StatusInternalServerError, Text: strings.ToValidUTF8(strings.TrimPrefix(err.Error(), "tables: "), "\uFFFD")}
	var statement *tables.SQLError
	var condition *filter.SyntaxError
	var size *http.MaxBytesError
	switch {
	case errors.As(err, &size):
		p.Status, p.Text = http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", size.Limit)
		return p
	case errors.Is(err, fs.ErrPermission):
		p.Status = http.StatusForbidden
		return p
	case errors.Is(err, tables.ErrNotEmpty):
		p.Status = http.StatusConflict
		return p
	case errors.As(err, &statement):
		p.Line, p.Column, p.Text = statement.Line, statement.Column, statement.Err.Error()
	case errors.As(err, &condition):
		p.Line, p.Column, p.Text = 1, condition.Offset+1, condition.Msg
	}
	told := status.Convert(flightd.Status(err))
	if s, ok := statuses[told.Code()]; ok {
		p.Status = s
	}
	if status.Code(err) != codes.Unknown {
		p.Text = told.Message()
	}
	if file := (*fs.PathError)(nil); errors.As(err, &file) && file.Path != "" {
		p.Text = strings.ReplaceAll(p.Text, file.Path, "a file of the server")
	}
	return p
}

// fail answers with an error.
func (h *handler) fail(w http.ResponseWriter, err error) {
	p := problemOf(err)
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(h.opts.IdleTimeout)) // what failed may have taken long
	w.Header().Del("X-Partd-Rows")
	writeJSON(w, p.Status, p)
}

func writeJSON(w http.ResponseWriter, code int, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		code, text = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_, _ = w.Write(append(text, '\n')) // who has gone needs no answer
}

func (q *request) reply(v any) error {
	_ = q.rc.SetWriteDeadline(time.Now().Add(q.idle))
	writeJSON(q.w, http.StatusOK, v)
	return nil
}

func tooMany(what string) error {
	return &problem{Status: http.StatusTooManyRequests, Text: "too many " + what + " are under way; try again later"}
}

// parse reads a body of JSON. A large one has its place until the request ends.
func (q *request) parse(v any) error {
	body := http.MaxBytesReader(q.w, q.Body, maxBody)
	d := json.NewDecoder(io.MultiReader(io.LimitReader(body, largeBody), &largeRest{body, q}))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF { //nolint:errorlint // a decoder's own
			err = errors.New("there is more than one value")
		}
	}
	if err != nil && !errors.As(err, new(*http.MaxBytesError)) && !errors.As(err, new(*problem)) {
		return invalid("the body is not the JSON that is wanted here: %v", err)
	}
	return err
}

// largeRest is what follows the first part of a large body.
type largeRest struct {
	io.Reader
	q *request // nil once it has its place
}

func (l *largeRest) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if q := l.q; q != nil && n > 0 {
		leave, ok := q.large.Take(q.RemoteAddr, nil)
		if !ok {
			return 0, tooMany("large requests")
		}
		rest := q.leave
		q.leave, l.q = func() { leave(); rest() }, nil
	}
	return n, err
}

func checkNames(all ...string) error {
	for _, name := range all {
		if len(name) > tables.MaxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return invalid("the name %.40q is none: it has to be UTF-8 without zero bytes, of %d bytes at most", name, tables.MaxName)
		}
	}
	return nil
}

// failure is why a stream was cut.
type failure struct {
	id string
	*problem
}

func (h *handler) remember(id string, err error) {
	if id == "" {
		return // nobody can ask
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.failures) >= maxFailures {
		h.failures = slices.Delete(h.failures, 0, 1)
	}
	h.failures = append(h.failures, failure{id, problemOf(err)})
}

func (h *handler) failure(q *request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range slices.Backward(h.failures) {
		if f.id == q.PathValue("id") {
			return q.reply(f.problem)
		}
	}
	return &problem{Status: http.StatusNotFound, Text: "no stream of this id was cut"}
}
