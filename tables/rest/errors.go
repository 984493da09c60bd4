package rest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/flightd"
)

// problem is an error as the specification's model has it.
type problem struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    int    `json:"code"`
}

func (p *problem) Error() string { return p.Message }

// GRPCStatus is the problem as the server's figures count it.
func (p *problem) GRPCStatus() *status.Status {
	code := map[int]codes.Code{
		http.StatusUnauthorized: codes.Unauthenticated, http.StatusForbidden: codes.PermissionDenied, http.StatusNotFound: codes.NotFound,
		http.StatusConflict: codes.Aborted, http.StatusServiceUnavailable: codes.ResourceExhausted, http.StatusInternalServerError: codes.Internal,
	}[p.Code]
	return status.New(cmp.Or(code, codes.InvalidArgument), p.Message)
}

func invalid(format string, args ...any) error {
	return &problem{Code: http.StatusBadRequest, Type: "BadRequestException", Message: fmt.Sprintf(format, args...)}
}

// kinds are the types and codes of errors, the first that fits.
var kinds = []struct {
	is   error
	code int
	name string
}{
	{partd.ErrUnknownOutcome, http.StatusInternalServerError, "CommitStateUnknownException"},
	{tables.ErrRequirement, http.StatusConflict, "CommitFailedException"},
	{tables.ErrConflict, http.StatusConflict, "CommitFailedException"},
	{tables.ErrExists, http.StatusConflict, "AlreadyExistsException"},
	{tables.ErrNotEmpty, http.StatusConflict, "NamespaceNotEmptyException"},
	{tables.ErrNotFound, http.StatusNotFound, "NoSuchTableException"},
	{tables.ErrReadOnly, http.StatusForbidden, "ForbiddenException"},
	{tables.ErrClosed, http.StatusServiceUnavailable, "ServiceUnavailableException"},
	{tables.ErrDamaged, http.StatusInternalServerError, "ServiceFailureException"},
	{fs.ErrPermission, http.StatusForbidden, "ForbiddenException"},
}

// problemOf finds what to tell of an error.
func problemOf(err error) *problem {
	if p := (*problem)(nil); errors.As(err, &p) {
		return p
	}
	p := &problem{Code: http.StatusInternalServerError, Type: "ServiceFailureException", Message: strings.ToValidUTF8(strings.TrimPrefix(err.Error(), "tables: "), "\uFFFD")}
	if size := (*http.MaxBytesError)(nil); errors.As(err, &size) {
		return &problem{Code: http.StatusRequestEntityTooLarge, Type: "BadRequestException", Message: fmt.Sprintf("the body is larger than %d bytes", size.Limit)}
	}
	if errors.As(err, new(*tables.RuleError)) || errors.As(err, new(*tables.DuplicateError)) || errors.As(err, new(*tables.SchemaError)) || errors.As(err, new(*tables.ArgumentError)) {
		p.Code, p.Type = http.StatusBadRequest, "ValidationException"
		return p
	}
	for _, k := range kinds {
		if errors.Is(err, k.is) {
			p.Code, p.Type = k.code, k.name
			p.Message = flightd.WithoutPath(p.Message, err)
			return p
		}
	}
	switch told := status.Convert(flightd.Status(err)); told.Code() {
	case codes.ResourceExhausted:
		p.Code, p.Type, p.Message = http.StatusServiceUnavailable, "SlowDownException", told.Message()
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		p.Code, p.Type, p.Message = http.StatusServiceUnavailable, "ServiceUnavailableException", told.Message()
	case codes.PermissionDenied:
		p.Code, p.Type, p.Message = http.StatusForbidden, "ForbiddenException", told.Message()
	}
	p.Message = flightd.WithoutPath(p.Message, err)
	return p
}

// fail answers with an error.
func (h *handler) fail(w http.ResponseWriter, err error) {
	p := problemOf(err)
	w.Header().Del("ETag")
	switch p.Code {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	flightd.Answer(w, h.opts.IdleTimeout, p.Code, map[string]any{"error": p}, "")
}

// done answers what has no content, or returns the error.
func (q *request) done(err error) error {
	if err != nil {
		return err
	}
	return q.reply(http.StatusNoContent, nil)
}

func (q *request) reply(code int, v any) error {
	if v == nil {
		_ = q.Control.SetWriteDeadline(time.Now().Add(q.Idle))
		q.W.WriteHeader(code)
		return nil
	}
	flightd.Answer(q.W, q.Idle, code, v, `{"error":{"message":"the answer cannot be written as JSON","type":"ServiceFailureException","code":500}}`)
	return nil
}

// parse reads a body of JSON, whose unknown fields mean nothing here. A large one has its
// place until the request ends.
func (q *request) parse(v any) error {
	if kind := q.Header.Get("Content-Type"); kind != "" && !strings.HasPrefix(kind, "application/json") {
		return &problem{Code: http.StatusUnsupportedMediaType, Type: "BadRequestException", Message: "the body has to be application/json"}
	}
	b, err := io.ReadAll(q.Limited(maxBody, largeBody))
	if err != nil {
		return err
	}
	if passes(b) > mostPasses*maxBody {
		return invalid("the body has too many levels for its %d bytes", len(b))
	}
	if err := json.Unmarshal(b, v); err != nil {
		return invalid("the body is not the JSON that is wanted here: %v", err)
	}
	return nil
}

// passes is how many bytes are read to decode JSON: a schema is read again for each of its
// levels, whatever is in the innermost.
func passes(b []byte) (n int64) {
	level, text := int64(1), false
	for i := 0; i < len(b); i++ {
		n += level
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			level++
		case c == '}' || c == ']':
			level--
		}
	}
	return n
}
