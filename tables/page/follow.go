package page

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/faces/following"
	"github.com/go-partd/partd/tables/internal/faces/formats"
	"github.com/go-partd/partd/tables/internal/faces/kinds"
	"github.com/go-partd/partd/tables/internal/faces/serving"
	"github.com/go-partd/partd/tables/internal/rows/batches"
)

// follow answers with the changes of a table as server-sent events, until the client disconnects. Each row is an event.
// The event "version" follows the rows of a version, and has the version as its ID, so that a client that connects
// again continues after the last version whose rows it has received.
func (h *handler) follow(q *request) error {
	p := q.URL.Query()
	bucket, name, err := q.names()
	since, sinceErr := parseState(p.Get("since"), p.Get("since_snapshot"))
	keys, keysErr := parseNames("keys", p.Get("keys"))
	every, everyErr := parseEvery(p.Get("every"))
	err = cmp.Or(err, sinceErr, keysErr, everyErr)
	if err != nil {
		return err
	}
	if id := q.Header.Get("Last-Event-ID"); id != "" {
		version, err := strconv.ParseInt(id, 10, 64)
		if err != nil || version < 0 {
			return invalid("the header Last-Event-ID is %.40q: it must be a version", id)
		}
		since = tables.AtVersion(tables.Version(version))
	}
	if err := q.Follow(); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(q.Ctx)
	defer cancel(nil)
	if stopping, ok := q.Context().Value(stoppingKey{}).(context.Context); ok {
		defer context.AfterFunc(stopping, func() { cancel(errStopping) })()
	}
	defer serving.AfterFunc(ctx, func() { _ = q.Control.SetWriteDeadline(time.Now()) })() // ends a blocked write
	if expires := q.Caller.Expires; !expires.IsZero() {
		defer time.AfterFunc(time.Until(expires), func() { cancel(serving.TokenError("sign in again", errors.New("the token has expired"))) }).Stop()
	}
	tooLong := kinds.IdleReceiver.Errorf("the client reads the changes too slowly: connect again")
	release := func() {}
	defer func() { release() }()
	q.W.Header().Set("Content-Type", "text/event-stream")
	err = following.Follow(ctx, &following.Options{
		Since: since, UUID: p.Get("uuid"), Every: every,
		Info: func(ctx context.Context) (tables.TableInfo, error) {
			if err := h.checkFollower(q, bucket); err != nil {
				return tables.TableInfo{}, err
			}
			return h.store.Bucket(bucket).Table(name).Info(ctx)
		},
		Changes: func(ctx context.Context, since tables.At, uuid string) (*tables.Changes, error) {
			releaseSlot, err := serving.AcquireQuery(ctx)
			if err != nil {
				return nil, err
			}
			timeLimit := time.AfterFunc(h.opts.CallTimeout, func() { cancel(tooLong) })
			release = func() { timeLimit.Stop(); releaseSlot() }
			return h.store.Bucket(bucket).Table(name).Changes(ctx, since, &tables.ChangesOptions{Keys: keys, UUID: uuid})
		},
		Idle: func() error {
			release()
			return q.sendEvent(": nothing new\n\n") // fails if the client has disconnected
		},
	}, func(c *tables.Changes) error {
		defer func() { release() }()
		return sendChanges(ctx, q, c)
	})
	if err == nil || !q.hasBody || q.Ctx.Err() != nil {
		return err
	}
	err = cmp.Or(context.Cause(ctx), err)
	text, jsonErr := json.Marshal(h.publicProblem(err))
	return errors.Join(err, jsonErr, q.sendEvent(fmt.Sprintf("event: failed\ndata: %s\n\n", text)))
}

// stoppingKey is the context key for another context, which ends when the server begins to stop.
type stoppingKey struct{}

var errStopping = kinds.Stopping.Errorf("the server is stopping: connect again")

const minEvery = time.Second

func parseEvery(text string) (time.Duration, error) {
	if text == "" {
		return following.DefaultEvery, nil
	}
	every, err := time.ParseDuration(text)
	if err != nil || every < minEvery || every > time.Hour {
		return 0, invalid("every is %.40q: it must be a time between 1s and 1h", text)
	}
	return every, nil
}

// checkFollower returns an error if the client's token is no longer valid.
func (h *handler) checkFollower(q *request, bucket string) error {
	caller, err := h.identify(q.Request.Request)
	if err != nil {
		return serving.TokenError("sign in again", err)
	}
	return caller.CheckAccess(serving.Read, bucket)
}

func (q *request) sendEvent(text string) error {
	_, err := io.WriteString(q, text)
	if err == nil {
		err = q.runSend(q.Control.Flush)
	}
	return err
}

func sendChanges(ctx context.Context, q *request, c *tables.Changes) error {
	r := following.WithVersion(c)
	defer r.Release()
	events := &eventWriter{ctx: ctx, q: q, isStart: true}
	w, err := formats.JSONL().Write(events, r.Schema(), formats.WriteOptions{})
	if err != nil {
		return err
	}
	for batch := range batches.Rebatch(r, nil) {
		err = w.Write(batch)
		if err != nil {
			break
		}
	}
	err = cmp.Or(err, r.Err())
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		if !events.isStart {
			err = errors.Join(err, q.sendEvent("\n\n")) // ends the event
		}
		return err
	}
	return q.sendEvent(fmt.Sprintf("event: version\nid: %d\ndata: {\"version\":%[1]d,\"uuid\":%q}\n\n", c.Version, c.UUID))
}

// eventWriter sends each line as an event.
type eventWriter struct {
	ctx     context.Context
	q       *request
	isStart bool // whether the next byte begins a line
}

func (w *eventWriter) Write(p []byte) (int, error) {
	if w.ctx.Err() != nil {
		return 0, context.Cause(w.ctx)
	}
	var events []byte
	for line := range bytes.Lines(p) {
		if w.isStart {
			events = append(events, "data: "...)
		}
		events = append(events, line...)
		w.isStart = line[len(line)-1] == '\n'
		if w.isStart {
			events = append(events, '\n')
		}
	}
	if _, err := w.q.Write(events); err != nil {
		return 0, err
	}
	return len(p), nil
}
