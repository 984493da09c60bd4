package rest

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

func invalid(format string, args ...any) error { return kinds.BadRequest.Errorf(format, args...) }

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
	switch { // more detailed errors keep their messages
	case op.Err == tables.ErrNotFound || errors.Unwrap(op.Err) == tables.ErrNotFound: // without the hint at a similar name
		return kind + " does not exist: " + name
	case op.Err == tables.ErrExists && op.Op != "rename":
		return kind + " already exists: " + name
	}
	return ""
}

// publicText returns the text that clients receive for an error.
func (h *handler) publicText(err error) string {
	return h.server.WithoutPaths(cmp.Or(h.icebergMessage(err), serving.Text(err)), err)
}

func (h *handler) fail(w http.ResponseWriter, err error) {
	d := kinds.Of(err)
	w.Header().Del("ETag")
	w.Header().Set(kinds.Header, d.Header())
	switch d.REST {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	serving.WriteJSON(w, h.opts.IdleTimeout, d.REST, map[string]any{"error": map[string]any{"message": h.publicText(err), "type": d.Iceberg, "code": d.REST}}, "")
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

// parse decodes a JSON body into v. It ignores unknown fields.
func (q *request) parse(v any) error {
	if contentType := q.Header.Get("Content-Type"); contentType != "" && !strings.HasPrefix(contentType, "application/json") {
		return kinds.MediaType.Errorf("the body must be application/json")
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

// readLarge reads the rest of a body that begins with b and returns the whole body. It fails if the body does not
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
