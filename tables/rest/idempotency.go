package rest

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/apache/iceberg-go/table"
	"github.com/google/uuid"

	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/files/icecat"
	"github.com/go-partd/partd/tables/internal/state/foreign"
)

// keyHeader is the header with a request's idempotency key. Requests with the same key change the catalog at most once;
// repetitions get an equivalent answer.
const keyHeader = "Idempotency-Key"

// maxError limits the size of a recorded error, in bytes, because errors can quote the request.
const maxError = 16 << 10

// recordedError is the answer that once records for an error.
type recordedError struct {
	Message string `json:"message"`
	*kinds.Details
}

// once runs handle, which answers a request with an idempotency key. If the key has already been recorded, once answers
// from the record instead. A successful change records the key in its own transaction. If handle fails with an error
// that a repetition would get again, once records the error.
func (h *handler) once(q *request, b *tables.Bucket, handle func() error) error {
	id, err := uuid.Parse(q.Header.Get(keyHeader))
	if err != nil || len(q.Header.Get(keyHeader)) != 36 || id.Version() != 7 || id.Variant() != uuid.RFC4122 {
		return invalid("the header %s is %.80q: it must be a UUID of version 7, such as %s", keyHeader, q.Header.Get(keyHeader), uuid.Must(uuid.NewV7()))
	}
	body, err := q.readBody()
	if err != nil {
		return err
	}
	q.key = &icecat.Key{ID: id.String(), Status: http.StatusNoContent, Scope: hash(q.Caller.User(), q.URL.Path)}
	bodySum := sha256.Sum256(body)
	q.key.Fingerprint = hash(q.Caller.User(), q.Method, q.URL.EscapedPath(), q.URL.RawQuery, string(bodySum[:]))
	end, err := h.turns.begin(q.Ctx, q.key.ID, h.opts.Patience())
	if err != nil {
		return err
	}
	defer end()
	if answered, err := h.replay(q, b); answered {
		return err
	}
	q.Ctx = icecat.WithKey(q.Ctx, q.key)
	err = handle()
	if err == nil {
		return nil
	}
	if d := kinds.Of(err); isFinal(d.REST) {
		q.key.Status, q.key.Scope = d.REST, hash(q.Caller.User())
		// if the error cannot be recorded, a repetition runs the request again and gets the same error
		if text, err := json.Marshal(recordedError{h.publicText(err), d}); err == nil && len(text) <= maxError {
			q.key.Answer = string(text)
			_ = h.catalog().AddKey(context.WithoutCancel(q.Ctx))
		}
	}
	// Another server may have answered a request with this key in the meantime, or the outcome of the commit was
	// unknown.
	if answered, err := h.replay(q, b); answered {
		return err
	}
	return err
}

// hash returns a checksum of texts, as 32 hexadecimal digits.
func hash(texts ...string) string {
	h := sha256.New()
	for _, text := range texts {
		_, _ = fmt.Fprintf(h, "%d %s", len(text), text) // a hash accepts all writes
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// isFinal reports whether repeating a request that failed with an HTTP status would give the same error.
func isFinal(code int) bool {
	switch code { // Iceberg's specification uses 419 for expired credentials
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusRequestTimeout, 419, http.StatusTooManyRequests:
		return false
	}
	return code >= 400 && code < 500
}

func (h *handler) catalog() *icecat.Catalog {
	return foreign.Granted[tables.Store, tables.Table]().Catalog(h.store)
}

// willReply sets the answer to repetitions of the request. It must be called before the request changes the catalog.
func (q *request) willReply(code int, v any) error {
	if q.key == nil {
		return nil
	}
	text, err := json.Marshal(v)
	q.key.Status, q.key.Answer = code, string(text)
	return err
}

// willReplyTable is like willReply, for an answer that contains the table metadata that the request commits.
func (q *request) willReplyTable() {
	if q.key != nil {
		q.key.Status = http.StatusOK
	}
}

// replay answers the request from the record of its key. answered is true if there is a record, and also if looking for
// one failed.
func (h *handler) replay(q *request, b *tables.Bucket) (answered bool, err error) {
	k, err := h.catalog().Key(q.Ctx, q.key.ID, q.key.Fingerprint)
	switch {
	case err != nil || k == nil:
		return err != nil, err
	case k.Fingerprint != q.key.Fingerprint:
		return true, kinds.Unprocessable.Errorf("the %s was used for another request: send a new key with each new request", keyHeader)
	case k.Status >= 400:
		var e recordedError
		err := json.Unmarshal([]byte(k.Answer), &e)
		d := kinds.Parse(k.Answer)
		if err != nil || d == nil {
			return true, cmp.Or(err, icecat.ErrContent)
		}
		return true, d.GoError(e.Message)
	case k.Answer != "" && strings.HasSuffix(q.URL.Path, "/tables"): // the metadata of a staged table
		var staged struct {
			Location string
			UUID     string `json:"table-uuid"`
		}
		if err := json.Unmarshal([]byte(k.Answer), &staged); err != nil {
			return true, err
		}
		if _, err := h.currentName(q, staged.UUID); err != nil && !errors.Is(err, icecat.ErrNotFound) {
			return true, err
		}
		return true, h.replyTable(q, b, "", staged.Location, json.RawMessage(k.Answer))
	case k.Answer != "":
		return true, q.reply(k.Status, json.RawMessage(k.Answer))
	case k.Status == http.StatusNoContent:
		return true, q.reply(k.Status, nil)
	}
	return true, h.replayTable(q, b, k)
}

// replayTable answers with the current metadata of the table that a request with key k committed. If the table has been
// dropped since, it answers with the metadata that the request committed.
func (h *handler) replayTable(q *request, b *tables.Bucket, k *icecat.Key) error {
	name, err := tableName{b, q.PathValue("table")}, error(nil)
	if k.UUID != "" { // otherwise the commit changed nothing
		name, err = h.currentName(q, k.UUID)
	}
	var t *table.Table
	switch {
	case errors.Is(err, icecat.ErrNotFound):
		if err := q.charge(icecat.CostPerByte * maxBody); err != nil {
			return err
		}
		t, err = h.catalog().LoadAt(q.Ctx, "", "", k.Location)
		if errors.Is(err, icecat.ErrContent) {
			return kinds.NotFound.Errorf("the request succeeded, but the table was dropped later, and its files were removed")
		}
	case err == nil:
		if err := q.chargeTables(false, name); err != nil {
			return err
		}
		t, err = partdiceberg.Load(q.Ctx, name.bucket.Table(name.name), nil)
	}
	if err != nil {
		return err
	}
	return h.replyCommitted(q, b, t)
}

// currentName returns the name of the table with the given UUID, which the caller must be allowed to read.
func (h *handler) currentName(q *request, uuid string) (tableName, error) {
	n, err := h.catalog().ByUUID(q.Ctx, uuid)
	if err != nil {
		return tableName{}, err
	}
	b := h.store.BucketOf(n.Namespace)
	return tableName{b, n.Name}, q.Caller.CheckAccess(serving.Read, b.Name())
}

// turns lets only one request at a time run for each idempotency key.
type turns struct {
	mu      sync.Mutex
	running map[string]chan struct{} // closed when the request ends
}

// begin waits until no other request with the key id runs. When the request ends, the caller must call end.
func (t *turns) begin(ctx context.Context, id string, patience time.Duration) (end func(), err error) {
	timeout := time.After(patience)
	for {
		t.mu.Lock()
		otherDone, isBusy := t.running[id]
		if !isBusy {
			done := make(chan struct{})
			t.running[id] = done
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				defer t.mu.Unlock()
				delete(t.running, id)
				close(done)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-otherDone:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-timeout:
			return nil, kinds.Busy.Errorf("a request with this %s is still running: repeat the request later", keyHeader)
		}
	}
}
