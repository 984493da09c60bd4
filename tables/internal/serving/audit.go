package serving

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/go-partd/partd/internal/audit"
	"github.com/go-partd/partd/tables"
)

const (
	maxNoted   = 16      // tables in a line of the audit log
	maxRequest = 2 << 20 // bytes of a request that is decoded for the audit log, because decoding needs many times as much memory
)

// auditEntry is a call's line of the audit log while the call runs.
type auditEntry struct {
	mu sync.Mutex
	audit.Entry
	read, changed int64 // rows
}

// newEntry returns the entry of a call, or nil without an audit log.
func (s *Core) newEntry(c *Caller, address string) *auditEntry {
	if s.opts.Audit == nil {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	return &auditEntry{Entry: audit.Entry{RequestID: rand.Text()[:16], User: c.Name, Host: host}}
}

// RequestID returns the id of the call of ctx in the audit log, or "" without an audit log.
func RequestID(ctx context.Context) string {
	if c, ok := ctx.Value(callKey{}).(*call); ok && c.entry != nil {
		return c.entry.RequestID
	}
	return ""
}

// Note adds the tables and the statement that the call of ctx uses to its line of the audit log. Empty strings add nothing.
func Note(ctx context.Context, bucket, sql string, names ...string) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok || c.entry == nil {
		return
	}
	e := c.entry
	e.mu.Lock()
	defer e.mu.Unlock()
	if bucket != "" {
		e.Bucket = Shorten(bucket)
	}
	if sql != "" {
		e.SQL = Shorten(sql)
	}
	for _, name := range names {
		if name = Shorten(name); name != "" && len(e.Tables) < maxNoted && !slices.Contains(e.Tables, name) {
			e.Tables = append(e.Tables, name)
		}
	}
}

// NoteRequest is like Note, for a request in JSON. It ignores requests that are not JSON, or too long. If action is not "",
// it becomes part of the operation's name.
func NoteRequest(ctx context.Context, action string, request []byte) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok || c.entry == nil {
		return
	}
	if action != "" {
		c.entry.mu.Lock()
		c.entry.Operation = "/" + Shorten(action)
		c.entry.mu.Unlock()
	}
	var in struct {
		Bucket, SQL                                         string
		Name, Names, Table, Tables, Source, Sources, Target any // names, lists of names, or objects with a bucket and a name
	}
	if len(request) <= maxRequest {
		_ = json.Unmarshal(request, &in) // decodes the other fields even if one has another type
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

// noteOperation adds an operation on tables to the call's line. The rows of an operation within another do not count.
func noteOperation(ctx context.Context, op tables.Operation, out tables.Outcome, nested bool) {
	Note(ctx, op.Bucket, "", op.Table)
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok || c.entry == nil || nested {
		return
	}
	c.entry.mu.Lock()
	defer c.entry.mu.Unlock()
	switch op.Name {
	case "scan", "changes", "query":
		c.entry.read += out.Rows
	case "put", "exec", "update", "rewrite":
		c.entry.changed += out.Rows
	}
}

// audit writes the line of a call that has ended.
func (s *Core) audit(c *call, method string, start time.Time, code codes.Code, err error) {
	if c.entry == nil {
		return
	}
	c.entry.mu.Lock()
	defer c.entry.mu.Unlock()
	e := c.entry.Entry
	e.Operation = method + e.Operation
	e.Time, e.Seconds, e.Code, e.Outcome = time.Now().UTC(), time.Since(start).Seconds(), code.String(), audit.OK
	if e.Rows = c.entry.changed; e.Rows == 0 {
		e.Rows = c.entry.read
	}
	if err != nil {
		e.Outcome, e.Error = audit.Failed, Shorten(status.Convert(err).Message())
	}
	if code == codes.PermissionDenied || code == codes.Unauthenticated {
		e.Outcome = audit.Denied
	}
	if code == codes.Unauthenticated { // strangers must not fill the disk
		if !s.strangers.MayTry(c.host, "") {
			s.leftOut.Add(1)
			return
		}
		s.strangers.RecordFailure(c.host)
	}
	e.LeftOut = s.leftOut.Swap(0)
	_, _ = s.opts.Audit.Write(e.Line()) // the Writer reports errors
}
