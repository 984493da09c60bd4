package page

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/filter"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

// problem is an error in the form that clients receive.
type problem struct {
	Text string `json:"error"`
	*kinds.Details
}

func invalid(format string, args ...any) error { return kinds.BadRequest.Errorf(format, args...) }

// blame returns err, or an error that blames the client's input for it if err has no kind. format contains %s for err's
// text.
func blame(err error, format string) error {
	if d := problemOf(err); d.Kind == kinds.Internal {
		return invalid(format, d.Text)
	}
	return err
}

func problemOf(err error) *problem {
	p := &problem{serving.Text(err), kinds.Of(err)}
	if e, ok := errors.AsType[*tables.SQLError](err); ok {
		p.Text = e.Err.Error() // without the position
	} else if e, ok := errors.AsType[*filter.SyntaxError](err); ok {
		p.Text = e.Msg
	}
	return p
}

// publicProblem returns the problem for err, without the server's paths.
func (h *handler) publicProblem(err error) *problem {
	p := problemOf(err)
	p.Text = h.server.WithoutPaths(p.Text, err)
	return p
}

func (h *handler) fail(w http.ResponseWriter, err error) {
	p := h.publicProblem(err)
	w.Header().Del("X-Partd-Rows")
	serving.WriteJSON(w, h.opts.IdleTimeout, p.HTTP, p, "")
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
	if err != nil {
		return blame(err, "the body is not valid JSON for this request: %s")
	}
	return nil
}

func checkNames(names ...string) error {
	for _, name := range names {
		if len(name) > tables.MaxName || !utf8.ValidString(name) || strings.ContainsRune(name, 0) {
			return invalid("invalid name %.40q: names are UTF-8 without zero bytes, of at most %d bytes", name, tables.MaxName)
		}
	}
	return nil
}

// failure is the error that cut off a stream of rows. The client must request the error separately, because the status
// of the response has already been sent.
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
	return kinds.NotFound.Errorf("no failed stream has this id")
}
