package remote

import (
	"encoding/binary"
	"errors"
	"time"
)

// AuditRecord describes a request and its outcome. It contains no keys, values or credentials.
type AuditRecord struct {
	Time       time.Time `json:"time"` // arrival of the request
	User       string    `json:"user"` // empty without users, for a trusted socket, and for a refused credential
	Peer       string    `json:"peer"`
	Connection uint64    `json:"connection"` // number of the connection
	Request    uint64    `json:"request"`    // number of the request in its connection; 0 for Python's clients
	Namespace  string    `json:"namespace"`  // empty for the default namespace
	Operation  string    `json:"operation"`
	Keys       int64     `json:"keys"`     // number of keys in the request, as the client says
	Received   int64     `json:"received"` // bytes of the request
	Sent       int64     `json:"sent"`     // bytes of the answer
	Seconds    float64   `json:"seconds"`
	Outcome    string    `json:"outcome"` // ok, denied, failed, or unanswered if the connection ended first
}

// audit reports a request to ServerOptions.Audit.
func (c *conn) audit(e AuditRecord, err error) {
	if c.server.opts.Audit == nil {
		return
	}
	e.Peer, e.Connection, e.Seconds = peerName(c.nc), c.id, time.Since(e.Time).Seconds()
	switch {
	case err == nil:
		e.Outcome = "ok"
	case errors.Is(err, errDenied), errors.Is(err, errClose):
		e.Outcome = "denied"
	case c.ctx.Err() != nil && isCancelled(err), errors.Is(err, errSuperseded):
		e.Outcome = "unanswered"
	default:
		e.Outcome = "failed"
	}
	c.server.opts.Audit(e)
}

// auditRequest reports a request of a Go client. User and namespace are those at its arrival.
func (c *conn) auditRequest(r request, sent int, err error) {
	switch r.op {
	case opPing, opPart, opKeepHandle, opCloseHandle:
		return // these neither read nor change data; the parts count in their request
	case opHello:
		r.user, r.namespace = c.access.user.User, c.namespace
	}
	c.audit(AuditRecord{
		Time: r.arrived, User: r.user, Request: r.number, Namespace: r.namespace, Operation: r.op.String(),
		Keys: r.keys, Received: r.received, Sent: int64(sent),
	}, err)
}

// keysIn returns the number of keys in the body of a request.
func (op operation) keysIn(body []byte) int64 {
	switch op {
	case opAppend, opSet, opSetOnce, opDelete, opPop, opGet:
		if len(body) >= 4 {
			return int64(binary.LittleEndian.Uint32(body))
		}
	case opOpen:
		return 1
	}
	return 0
}

// auditPython reports a request of a Python client.
func (c *conn) auditPython(e AuditRecord, frames [][]byte, err error) {
	switch e.Operation {
	case "syn":
		return
	case "append":
		e.Keys /= 2
	case "iset":
		e.Keys = 1
	case "get", "delete", "drop", "close":
	default:
		e.Operation = "unknown"
	}
	for _, f := range frames {
		e.Received += int64(len(f))
	}
	e.User, e.Namespace = c.access.user.User, c.namespace
	c.audit(e, err)
}
