package remote

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/go-partd/partd/internal/server/audit"
)

// audit writes a line about a request to the audit log. The line contains no keys, values or credentials.
func (a *access) audit(e audit.Entry, arrived time.Time, number uint64, err error) {
	r := a.recorder
	if r.Out == nil {
		return
	}
	e.Host, e.RequestID = peerName(a.peer.nc), fmt.Sprint(a.peer.id, "-", number)
	switch {
	case err == nil:
		e.Outcome = audit.OK
	case errors.Is(err, errDenied), errors.Is(err, errClose):
		e.Outcome = audit.Denied
	case a.peer.ctx.Err() != nil && isCancelled(err), errors.Is(err, errSuperseded):
		e.Outcome = audit.Unanswered
	default:
		e.Outcome = audit.Failed
	}
	isStranger := err != nil && e.User == "" && a.peer.opts.Authorizer != nil && !a.listener.Trusted
	isInvalid := errors.Is(err, errCommand) || errors.Is(err, errFrames) || errors.Is(err, ErrBadRequest)
	r.Record(e, arrived, a.peer.tenant.name, isStranger || isInvalid)
}

// auditRequest writes a line about a request from a Go client, with the user and namespace that the
// connection had when the request arrived.
func (a *access) auditRequest(r request, sent int, err error) {
	switch r.op {
	case opPing, opKeepHandle, opCloseHandle:
		return // these neither read nor change data
	case opHello:
		r.user, r.namespace = a.user.User, a.namespace
	}
	a.audit(audit.Entry{
		User: r.user, Namespace: r.namespace, Operation: r.op.String(), Keys: r.keys, Received: r.received, Sent: int64(sent),
	}, r.arrived, r.number, err)
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

// auditPython writes a line about a request from a Python client.
func (a *access) auditPython(command string, frames [][]byte, arrived time.Time, sent int64, err error) {
	e := audit.Entry{User: a.user.User, Namespace: a.namespace, Operation: command, Keys: int64(len(frames) - 1), Sent: sent}
	switch command {
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
	if len(frames) == 1 && err == nil && (command == "append" || command == "get" || command == "delete") {
		return // a request without keys does nothing
	}
	for _, f := range frames {
		e.Received += int64(len(f))
	}
	a.audit(e, arrived, 0, err)
}
