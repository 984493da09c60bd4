package remote

import (
	"fmt"
	"io/fs"
)

// rights are what the peer of a connection may do. Without authentication they
// come from the server's options and are the same for everyone.
type rights uint8

const (
	mayRead rights = 1 << iota
	mayAppend
	mayDelete // which includes set and drop
	mayClose
)

func fullRights(close bool) rights {
	r := mayRead | mayAppend | mayDelete
	if close {
		r |= mayClose
	}
	return r
}

var errNotAllowed = fmt.Errorf("it is not allowed (%w)", fs.ErrPermission)

// check returns an error if something that is needed is missing.
func (r rights) check(need rights) error {
	if missing := need &^ r; missing != 0 {
		return fmt.Errorf("to %s: %w", missing, errNotAllowed)
	}
	return nil
}

func (r rights) String() string {
	for _, n := range []struct {
		right rights
		name  string
	}{{mayRead, "read"}, {mayAppend, "append"}, {mayDelete, "delete, set or drop"}, {mayClose, "close the server"}} {
		if r&n.right != 0 {
			return n.name
		}
	}
	return "nothing"
}

// need returns the rights that an operation needs.
func (op operation) need() rights {
	switch op {
	case opAppend, opPart:
		return mayAppend
	case opSet, opSetOnce, opDelete, opDrop:
		return mayDelete
	case opPop, opPopRead, opPopDone:
		return mayRead | mayDelete
	case opHello, opPing, opSession, opEndSession, opFlush, opSync, opCloseHandle, opKeepHandle:
		return 0
	}
	return mayRead
}
