package rest

import (
	"bytes"
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
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// problem is an error in the form that the REST specification defines.
type problem struct {
	Message string `json:"message"`
	Type    string `json:"type"`
	Code    int    `json:"code"`
}

func (p *problem) Error() string { return p.Message }

// GRPCStatus returns the status under which the server's metrics count the problem.
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

func notFound(kind, text string) error {
	return &problem{Code: http.StatusNotFound, Type: kind, Message: text}
}

// errorTypes maps errors to status codes and to the specification's types. The first match applies.
var errorTypes = []struct {
	target error
	code   int
	name   string
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
	for _, t := range errorTypes {
		if errors.Is(err, t.target) {
			p.Code, p.Type = t.code, t.name
			return p
		}
	}
	if serving.IsDiskFull(err) {
		p.Code, p.Type = http.StatusServiceUnavailable, "ServiceUnavailableException"
		return p
	}
	st := status.Convert(serving.Status(err))
	switch st.Code() {
	case codes.ResourceExhausted:
		p.Code, p.Type, p.Message = http.StatusServiceUnavailable, "SlowDownException", st.Message()
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled:
		p.Code, p.Type, p.Message = http.StatusServiceUnavailable, "ServiceUnavailableException", st.Message()
	case codes.InvalidArgument:
		p.Code, p.Type, p.Message = http.StatusBadRequest, "BadRequestException", st.Message()
	case codes.PermissionDenied:
		p.Code, p.Type, p.Message = http.StatusForbidden, "ForbiddenException", st.Message()
	}
	return p
}

// icebergMessage returns the message that Iceberg's own catalogs use if a table or namespace does not exist or already
// exists, and "" for other errors. It returns "" for a rename's ErrExists, because that error does not say which table
// exists.
func (h *handler) icebergMessage(err error) string {
	op := (*tables.OpError)(nil)
	if !errors.As(err, &op) {
		return ""
	}
	kind, name := "Namespace", h.store.Bucket(op.Bucket).Namespace()
	if op.Table != "" {
		kind, name = "Table", name+"."+op.Table
	}
	cause := op.Err.Error()
	switch { // longer messages are more specific, and stay unchanged
	case strings.HasPrefix(cause, tables.ErrNotFound.Error()): // without the hint at a similar name
		return kind + " does not exist: " + name
	case cause == tables.ErrExists.Error() && op.Op != "rename":
		return kind + " already exists: " + name
	}
	return ""
}

// publicProblem returns the problem that clients receive for an error.
func (h *handler) publicProblem(err error) *problem {
	p := problemOf(err)
	return &problem{h.server.WithoutPaths(cmp.Or(h.icebergMessage(err), p.Message), err), p.Type, p.Code}
}

func (h *handler) fail(w http.ResponseWriter, err error) {
	p := h.publicProblem(err)
	w.Header().Del("ETag")
	switch p.Code {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	serving.WriteJSON(w, h.opts.IdleTimeout, p.Code, map[string]any{"error": p}, "")
}

func (q *request) replyEmpty(err error) error {
	if err != nil {
		return err
	}
	return q.reply(http.StatusNoContent, nil)
}

func (q *request) reply(code int, v any) error {
	if v == nil {
		serving.WriteStatus(q.W, q.ReadTimeout, code)
		return nil
	}
	serving.WriteJSON(q.W, q.ReadTimeout, code, v, `{"error":{"message":"the response cannot be encoded as JSON","type":"ServiceFailureException","code":500}}`)
	return nil
}

// parse decodes a JSON body into v, and ignores unknown fields.
func (q *request) parse(v any) error {
	if contentType := q.Header.Get("Content-Type"); contentType != "" && !strings.HasPrefix(contentType, "application/json") {
		return &problem{Code: http.StatusUnsupportedMediaType, Type: "BadRequestException", Message: "the body must be application/json"}
	}
	b, err := q.readBody()
	if err != nil {
		return err
	}
	q.cost, err = icecat.DecodedCost(b)
	if err != nil {
		return invalid("the body is invalid: it %v", err)
	}
	if err := q.charge(q.cost); err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return invalid("the body is not valid JSON for this endpoint: %v", err)
	}
	return nil
}

// readBody returns the body. It waits for memory before it reads a large body, which counts towards
// serving.MaxLargeRequests until the request ends.
func (q *request) readBody() (b []byte, err error) {
	if q.body != nil {
		return q.body, nil
	}
	body := q.Limited(maxBody, largeBody)
	b, err = io.ReadAll(io.LimitReader(body, largeBody))
	if err == nil && len(b) == largeBody {
		b, err = q.readLarge(b, body)
	}
	q.body = b
	return b, err
}

// readLarge reads the rest of a body that begins with b, and returns the whole body. It fails if the body does not
// arrive within q.ReadTimeout, because other requests wait for the memory.
func (q *request) readLarge(b []byte, rest io.Reader) ([]byte, error) {
	size := int64(maxBody)
	if n := q.ContentLength; n >= 0 {
		size = min(size, n)
	}
	if err := q.charge(icecat.CostPerByte * size); err != nil {
		return nil, err
	}
	q.ReadDeadline = time.Now().Add(q.ReadTimeout)
	buf := bytes.NewBuffer(make([]byte, 0, size+bytes.MinRead))
	_, _ = buf.Write(b) // a Buffer accepts all writes
	_, err := buf.ReadFrom(rest)
	return buf.Bytes(), err
}
