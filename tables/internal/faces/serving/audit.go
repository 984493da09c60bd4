package serving

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/tables"
)

const (
	maxTables = 16 // maximum number of tables in a line of the audit log
	// maximum size, in bytes, of a request that is decoded for the audit log; decoding needs many times as much memory
	maxRequestBytes = 2 << 20
)

// auditEntry collects the audit log's line for a running call.
type auditEntry struct {
	mu sync.Mutex
	audit.Entry
	read, changed int64 // numbers of rows
}

// newEntry returns the audit entry for a call, or nil if there is no audit log.
func (s *Core) newEntry(c *Caller, address string) *auditEntry {
	if s.recorder.Out == nil {
		return nil
	}
	return &auditEntry{Entry: audit.Entry{RequestID: rand.Text()[:16], User: c.Name, Host: address}}
}

// entryOf returns the audit entry of ctx's call, or nil if there is no audit log.
func entryOf(ctx context.Context) *auditEntry {
	if c, ok := ctx.Value(callKey{}).(*call); ok {
		return c.entry
	}
	return nil
}

// RequestID returns the ID of ctx's call in the audit log, or "" if there is no audit log.
func RequestID(ctx context.Context) string {
	if e := entryOf(ctx); e != nil {
		return e.RequestID
	}
	return ""
}

// Note records the tables and the statement of ctx's call for its line in the audit log. It ignores empty strings.
func Note(ctx context.Context, bucket, sql string, names ...string) {
	e := entryOf(ctx)
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.Bucket, e.SQL = cmp.Or(Shorten(bucket), e.Bucket), cmp.Or(Shorten(sql), e.SQL)
	for _, name := range names {
		name = Shorten(name)
		if name != "" && len(e.Tables) < maxTables && !slices.Contains(e.Tables, name) {
			e.Tables = append(e.Tables, name)
		}
	}
}

// NoteRequest is like Note, but takes its values from a JSON request. It ignores a request that is too long or not
// JSON. If action is not "", it becomes part of the operation's name.
func NoteRequest(ctx context.Context, action string, request []byte) {
	e := entryOf(ctx)
	if e == nil {
		return
	}
	if action != "" {
		e.mu.Lock()
		e.Operation = "/" + Shorten(action)
		e.mu.Unlock()
	}
	var in struct {
		Bucket, SQL string
		// each is a name, a list of names, or an object with a bucket and a name
		Name, Names, Table, Tables, Source, Sources, Target any
	}
	if len(request) <= maxRequestBytes {
		_ = json.Unmarshal(request, &in) // decodes the other fields even if one has the wrong type
	}
	var names []string
	var collect func(v any)
	collect = func(v any) {
		switch v := v.(type) {
		case string:
			names = append(names, v)
		case []any:
			for _, v := range v {
				collect(v)
			}
		case map[string]any:
			collect(v["name"])
		}
	}
	for _, v := range []any{in.Name, in.Names, in.Table, in.Tables, in.Source, in.Sources, in.Target} {
		collect(v)
	}
	Note(ctx, in.Bucket, in.SQL, names...)
}

// noteOperation adds a table operation to the audit entry of ctx's call. If nested is true, the operation is part of
// another one, so its rows do not count.
func noteOperation(ctx context.Context, op tables.Operation, out tables.Outcome, nested bool) {
	Note(ctx, op.Bucket, "", op.Table)
	e := entryOf(ctx)
	if e == nil || nested {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	switch op.Name {
	case "scan", "changes", "query":
		e.read += out.Rows
	case "put", "exec", "update", "rewrite":
		if out.Err == nil { // after an error, the call may repeat the operation
			e.changed += out.Rows
		}
	}
}

// audit writes the audit log's line for a call that has ended.
func (s *Core) audit(c *call, method string, start time.Time, code codes.Code, err error) {
	if c.entry == nil {
		return
	}
	c.entry.mu.Lock()
	defer c.entry.mu.Unlock()
	e := c.entry.Entry
	e.Operation, e.Code, e.Outcome, e.Rows = method+e.Operation, code.String(), audit.OK, cmp.Or(c.entry.changed, c.entry.read)
	if err != nil {
		e.Outcome, e.Error = audit.Failed, Shorten(status.Convert(err).Message())
	}
	if code == codes.PermissionDenied || code == codes.Unauthenticated {
		e.Outcome = audit.Denied
	}
	s.recorder.Record(e, start, c.host, code == codes.Unauthenticated)
}
