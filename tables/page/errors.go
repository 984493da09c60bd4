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
	p.Text = flightd.WithoutPath(p.Text, err)
	return p
}

// fail answers with an error.
func (h *handler) fail(w http.ResponseWriter, err error) {
	p := problemOf(err)
	w.Header().Del("X-Partd-Rows")
	flightd.Answer(w, h.opts.IdleTimeout, p.Status, p, "")
}

func (q *request) reply(v any) error {
	flightd.Answer(q.W, q.Idle, http.StatusOK, v, `{"error":"the answer cannot be written as JSON"}`)
	return nil
}

// parse reads a body of JSON. A large one has its place until the request ends.
func (q *request) parse(v any) error {
	d := json.NewDecoder(q.Limited(maxBody, largeBody))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); more != io.EOF { //nolint:errorlint // a decoder's own
			err = errors.New("there is more than one value")
		}
	}
	if err != nil && !errors.As(err, new(*http.MaxBytesError)) && status.Code(err) != codes.ResourceExhausted {
		return invalid("the body is not the JSON that is wanted here: %v", err)
	}
	return err
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
