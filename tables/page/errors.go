package page

import (
	"bytes"
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
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// problem is an error in the form that clients receive.
type problem struct {
	Status int    `json:"-"`
	Text   string `json:"error"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`
	Writes bool   `json:"writes,omitempty"` // whether the statement writes, so that only the action exec runs it
}

func (p *problem) Error() string { return p.Text }

// GRPCStatus returns the status under which the server's metrics count the problem.
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

const statusCanceled = 499 // the usual code for a request that the client canceled

var statuses = map[codes.Code]int{
	codes.InvalidArgument: http.StatusBadRequest, codes.Unauthenticated: http.StatusUnauthorized, codes.PermissionDenied: http.StatusForbidden,
	codes.NotFound: http.StatusNotFound, codes.AlreadyExists: http.StatusConflict, codes.Aborted: http.StatusConflict,
	codes.ResourceExhausted: http.StatusTooManyRequests, codes.Canceled: statusCanceled, codes.Unimplemented: http.StatusNotImplemented,
	codes.Unavailable: http.StatusServiceUnavailable, codes.DeadlineExceeded: http.StatusServiceUnavailable,
}

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
	grpcStatus := status.Convert(serving.Status(err))
	if s, ok := statuses[grpcStatus.Code()]; ok {
		p.Status = s
	}
	if status.Code(err) != codes.Unknown {
		p.Text = grpcStatus.Message()
	}
	if serving.IsDiskFull(err) && p.Status == http.StatusTooManyRequests {
		p.Status = http.StatusInsufficientStorage
	}
	return p
}

// publicProblem returns the problem for err, without the server's paths.
func (h *handler) publicProblem(err error) *problem {
	p := *problemOf(err)
	p.Text = h.server.WithoutPaths(p.Text, err)
	return &p
}

func (h *handler) fail(w http.ResponseWriter, err error) {
	p := h.publicProblem(err)
	w.Header().Del("X-Partd-Rows")
	serving.WriteJSON(w, h.opts.IdleTimeout, p.Status, p, "")
}

func (q *request) reply(v any) error {
	serving.WriteJSON(q.W, q.ReadTimeout, http.StatusOK, v, `{"error":"the answer cannot be encoded as JSON"}`)
	return nil
}

func (q *request) parse(v any) error {
	var body bytes.Buffer
	defer func() { serving.NoteRequest(q.Ctx, "", body.Bytes()) }()
	d := json.NewDecoder(io.TeeReader(q.Limited(maxBody, largeBody), &body))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, nextErr := d.Token(); nextErr != io.EOF { //nolint:errorlint // the decoder does not wrap io.EOF
			err = errors.New("the body contains more than one JSON value")
		}
	}
	if err != nil && !errors.As(err, new(*http.MaxBytesError)) && status.Code(err) != codes.ResourceExhausted {
		return invalid("the body is not valid JSON for this request: %v", err)
	}
	return err
}

func checkNames(names ...string) error {
	for _, name := range names {
		if len(name) > tables.MaxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return invalid("invalid name %.40q: names are UTF-8 without zero bytes, of at most %d bytes", name, tables.MaxName)
		}
	}
	return nil
}

// failure is the error that cut off a stream of rows. The client has to request the error separately, because the
// status of the response has already been sent.
type failure struct {
	id string
	*problem
}

func (h *handler) rememberFailure(id string, err error) {
	if id == "" {
		return // no client can request it
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.failures) >= maxFailures {
		h.failures = slices.Delete(h.failures, 0, 1)
	}
	h.failures = append(h.failures, failure{id, h.publicProblem(err)})
}

func (h *handler) failure(q *request) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, f := range slices.Backward(h.failures) {
		if f.id == q.PathValue("id") {
			return q.reply(f.problem)
		}
	}
	return &problem{Status: http.StatusNotFound, Text: "no failed stream has this id"}
}
