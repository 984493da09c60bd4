package partdtest

import (
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/go-partd/partd"
)

func (e *env) newSession() uint64 {
	e.Helper()
	session, err := e.store.(partd.Applier).NewSession(e.ctx)
	e.must("NewSession", err)
	if session == 0 {
		e.Fatalf("NewSession returned session 0")
	}
	return session
}

// sessionOps returns the operations on a new session of the store, or none if the store has no sessions.
func (e *env) sessionOps() []operation {
	if !e.suite.can[CanApply] {
		return nil
	}
	applier, session := e.store.(partd.Applier), e.newSession()
	ops := []operation{
		{"NewSession", func() error { _, err := applier.NewSession(e.ctx); return err }},
		{"Apply", func() error {
			_, err := applier.Apply(e.ctx, partd.Tag{Session: session, Number: 1}, appendOp("a", "5"))
			return err
		}},
		{"EndSession", func() error { return applier.EndSession(e.ctx, session) }},
	}
	if guard, ok := e.store.(partd.SessionGuard); ok {
		token, err := guard.SessionToken(e.ctx, session)
		if !errors.Is(err, errors.ErrUnsupported) {
			e.must("SessionToken", err)
		}
		ops = append(ops,
			operation{"SessionToken", func() error { _, err := guard.SessionToken(e.ctx, session); return err }},
			operation{"CheckSession", func() error { return guard.CheckSession(e.ctx, session, token) }})
	}
	return ops
}

func (e *env) expectApply(tag partd.Tag, op partd.Operation, want bool) {
	e.Helper()
	applied, err := partd.Apply(e.ctx, e.store, tag, op)
	if err != nil || applied != want {
		e.Fatalf("Apply of operation %d returned %v, %v, want %v", tag.Number, applied, err, want)
	}
}

// expectRejected calls Apply and checks that it returns an error that wraps cause, or any error if
// cause is nil.
func (e *env) expectRejected(tag partd.Tag, op partd.Operation, cause error) {
	e.Helper()
	applied, err := partd.Apply(e.ctx, e.store, tag, op)
	if applied || err == nil || cause != nil && !errors.Is(err, cause) {
		e.Fatalf("Apply of operation %d returned %v, %v, want an error (%v)", tag.Number, applied, err, cause)
	}
}

func appendOp(key, value string) partd.Operation {
	return partd.Operation{Change: partd.ChangeAppend, Entries: []partd.Entry{entry(key, value)}}
}

func setOp(change partd.Change, key, value string) partd.Operation {
	return partd.Operation{Change: change, Entries: []partd.Entry{entry(key, value)}}
}

func applyOnce(e *env) {
	session := e.newSession()
	want := e.model
	large := randomText(100_000, 1)
	for i, step := range []struct {
		name   string
		op     partd.Operation
		change func()
	}{
		{"append", partd.Operation{Entries: []partd.Entry{entry("a", "1"), entry("b", large), entry("a", "2")}}, func() { want["a"], want["b"] = "12", large }},
		{"append again", appendOp("a", "3"), func() { want["a"] += "3" }},
		{"an append of nothing", partd.Operation{}, func() {}},
		{"set", setOp(partd.ChangeSet, "a", "set"), func() { want["a"] = "set" }},
		{"set to an empty value", setOp(partd.ChangeSet, "empty", ""), func() { want["empty"] = "" }},
		{"set once", setOp(partd.ChangeSetOnce, "once", large), func() { want["once"] = large }},
		{"set once of a key that exists", setOp(partd.ChangeSetOnce, "a", "no"), func() {}},
		{"delete", partd.Operation{Change: partd.ChangeDelete, Keys: []string{"a", "missing", "b"}}, func() { delete(want, "a"); delete(want, "b") }},
		{"delete of a missing key", partd.Operation{Change: partd.ChangeDelete, Keys: []string{"missing"}}, func() {}},
		{"append to a deleted key", appendOp("a", "4"), func() { want["a"] = "4" }},
		{"drop", partd.Operation{Change: partd.ChangeDrop}, func() { clear(want) }},
		{"drop again", partd.Operation{Change: partd.ChangeDrop}, func() { clear(want) }},
		{"append after drop", appendOp("a", "5"), func() { want["a"] = "5" }},
	} {
		tag := partd.Tag{Session: session, Number: uint64(i) + 1, CRC: uint32(i) * 7}
		e.expectApply(tag, step.op, true)
		step.change()
		e.check(step.name)
		// A retry must not undo or repeat other changes made in between.
		other := fmt.Sprint("other ", i)
		e.append(entry(other, "o"))
		e.expectApply(tag, step.op, false)
		e.expectApply(tag, step.op, false)
		e.check("the retry of " + step.name)
	}
}

func applyWrongNumbers(e *env) {
	session := e.newSession()
	tagOf := func(number uint64, crc uint32) partd.Tag {
		return partd.Tag{Session: session, Number: number, CRC: crc}
	}
	op := appendOp("a", "x")
	e.expectRejected(tagOf(2, 5), op, partd.ErrSessionGap)
	e.expectRejected(tagOf(0, 5), op, nil)
	e.expectRejected(partd.Tag{Number: 1}, op, nil)
	e.expectModel("operations with wrong numbers", nil)
	e.expectApply(tagOf(1, 5), op, true)
	e.expectRejected(tagOf(1, 6), op, partd.ErrSessionReused)
	e.expectRejected(tagOf(3, 5), op, partd.ErrSessionGap)
	e.expectRejected(tagOf(1<<63, 5), op, partd.ErrSessionGap)
	e.expectApply(tagOf(2, 5), op, true) // not a repetition of operation 1, although the CRC is the same
	e.expectApply(tagOf(1, 5), op, false)
	e.expectModel("after two operations and some with wrong numbers", model{"a": "xx"})
}

// applyInvalid applies invalid operations. Afterwards, a valid operation must be able to use their number.
func applyInvalid(e *env) {
	session := e.newSession()
	tag := partd.Tag{Session: session, Number: 1, CRC: 5}
	tooLong := strings.Repeat("k", partd.MaxKeyLen+1)
	e.expectRejected(tag, partd.Operation{Entries: []partd.Entry{entry("a", "1"), entry(tooLong, "2")}}, partd.ErrTooLarge)
	e.expectRejected(tag, setOp(partd.ChangeSet, tooLong, ""), partd.ErrTooLarge)
	e.expectRejected(tag, partd.Operation{Change: partd.ChangeDelete, Keys: []string{"a", tooLong}}, partd.ErrTooLarge)
	e.expectRejected(tag, partd.Operation{Change: partd.ChangeSet}, nil)
	e.expectRejected(tag, partd.Operation{Change: partd.ChangeSet, Entries: []partd.Entry{entry("a", "1"), entry("b", "1")}}, nil)
	e.expectRejected(tag, partd.Operation{Change: 99}, nil)
	if applied, err := partd.Apply(cancelledContext(e.ctx), e.store, tag, appendOp("a", "1")); applied || !isCancelledError(err) {
		e.Fatalf("Apply with a cancelled context returned %v, %v", applied, err)
	}
	e.expectModel("after rejected operations", nil)
	e.expectApply(tag, appendOp("a", "1"), true)
	e.expectModel("an operation after rejected ones", model{"a": "1"})
}

func applyExpired(e *env) {
	applier := e.store.(partd.Applier)
	session := e.newSession()
	e.expectApply(partd.Tag{Session: session, Number: 1}, appendOp("a", "1"), true)
	for _, unknown := range []uint64{1, 12345, session + 1000, session ^ 1<<63, 1<<64 - 1} {
		e.expectRejected(partd.Tag{Session: unknown, Number: 1}, appendOp("a", "x"), partd.ErrSessionExpired)
	}
	e.must("EndSession", applier.EndSession(e.ctx, session))
	for number := range uint64(3) {
		e.expectRejected(partd.Tag{Session: session, Number: number + 1}, appendOp("a", "x"), partd.ErrSessionExpired)
	}
	e.must("EndSession of an ended session", applier.EndSession(e.ctx, session))
	if reissued := e.newSession(); reissued == session {
		e.Fatalf("session %d was issued again", session)
	}
	e.expectModel("operations of ended sessions", model{"a": "1"})
}

func applyDrop(e *env) {
	session := e.newSession()
	e.expectApply(partd.Tag{Session: session, Number: 1}, appendOp("a", "1"), true)
	e.drop()
	e.expectApply(partd.Tag{Session: session, Number: 1}, appendOp("a", "1"), false)
	e.expectModel("Drop keeps sessions, so a late retry is recognized", nil)
	e.expectApply(partd.Tag{Session: session, Number: 2}, partd.Operation{Change: partd.ChangeDrop}, true)
	e.append(entry("b", "1"))
	e.expectApply(partd.Tag{Session: session, Number: 2}, partd.Operation{Change: partd.ChangeDrop}, false)
	e.expectModel("the retry of a Drop must not remove newer data", model{"b": "1"})
}

// applySessions applies operations in many sessions in turn.
func applySessions(e *env) {
	sessions := make([]uint64, 100)
	seen := map[uint64]bool{}
	for i := range sessions {
		sessions[i] = e.newSession()
		if seen[sessions[i]] {
			e.Fatalf("session %d was issued twice", sessions[i])
		}
		seen[sessions[i]] = true
	}
	want := ""
	for number := range uint64(3) {
		for i, s := range sessions {
			piece := fmt.Sprintf("%d.%d ", i, number)
			for attempt := range 2 {
				e.expectApply(partd.Tag{Session: s, Number: number + 1, CRC: 1}, appendOp("a", piece), attempt == 0)
			}
			want += piece
		}
	}
	e.expectModel("sessions do not affect each other", model{"a": want})
}

// concurrentApplyOfOneNumber calls Apply with the same operation in several goroutines at once.
func concurrentApplyOfOneNumber(e *env) {
	const clients = 4
	session := e.newSession()
	want := ""
	for number := range uint64(20) {
		piece := fmt.Sprint(number, " ")
		var appliedCount atomic.Int64
		e.concurrently(indexedCalls(clients, func(int) error {
			applied, err := partd.Apply(e.ctx, e.store, partd.Tag{Session: session, Number: number + 1}, appendOp("a", piece))
			if applied {
				appliedCount.Add(1)
			}
			return err
		})...)
		want += piece
		if n := appliedCount.Load(); n != 1 {
			e.Fatalf("%d goroutines sent operation %d concurrently, and Apply returned true to %d of them, want 1", clients, number+1, n)
		}
	}
	e.expectModel("operations sent several times concurrently", model{"a": want})
}

// concurrentApply appends to the same keys in many sessions at once. Each session repeats each
// operation.
func concurrentApply(e *env) {
	const clients, operations = 8, 30
	applier := e.store.(partd.Applier)
	e.concurrently(indexedCalls(clients, func(c int) error {
		session, err := applier.NewSession(e.ctx)
		if err != nil {
			return err
		}
		for n := range uint64(operations) {
			tag := partd.Tag{Session: session, Number: n + 1, CRC: uint32(n)}
			piece := fmt.Sprintf("<%d.%d>", c, n)
			op := partd.Operation{Entries: []partd.Entry{entry("shared", piece), entry(fmt.Sprint("own ", c), piece)}}
			for attempt := range 2 {
				if applied, err := partd.Apply(e.ctx, e.store, tag, op); err != nil || applied != (attempt == 0) {
					return fmt.Errorf("operation %d, attempt %d: Apply returned %v and error %v, want %v", n+1, attempt+1, applied, err, attempt == 0)
				}
			}
		}
		return applier.EndSession(e.ctx, session)
	})...)
	shared := string(e.get("shared")[0])
	for c := range clients {
		var want strings.Builder
		for n := range operations {
			fmt.Fprintf(&want, "<%d.%d>", c, n)
		}
		if got := string(e.get(fmt.Sprint("own ", c))[0]); got != want.String() {
			e.Errorf("client %d's own key holds %q, want %q", c, got, want.String())
		}
		var ownPieces strings.Builder // the client's pieces of the shared key
		for _, piece := range strings.SplitAfter(shared, ">") {
			if strings.HasPrefix(piece, fmt.Sprintf("<%d.", c)) {
				ownPieces.WriteString(piece)
			}
		}
		if ownPieces.String() != want.String() {
			e.Errorf("client %d's pieces in the shared key are %q, want %q", c, ownPieces.String(), want.String())
		}
	}
}

func applyReopen(e *env) {
	session, ended := e.newSession(), e.newSession()
	tag := partd.Tag{Session: session, Number: 1, CRC: 5}
	e.expectApply(tag, appendOp("a", "1"), true)
	e.expectApply(partd.Tag{Session: ended, Number: 1}, appendOp("a", "2"), true)
	e.must("EndSession", e.store.(partd.Applier).EndSession(e.ctx, ended))
	if !e.reopen() {
		return
	}
	e.expectApply(tag, appendOp("a", "1"), false)
	e.expectRejected(partd.Tag{Session: session, Number: 1, CRC: 6}, appendOp("a", "x"), partd.ErrSessionReused)
	e.expectRejected(partd.Tag{Session: session, Number: 3}, appendOp("a", "x"), partd.ErrSessionGap)
	e.expectRejected(partd.Tag{Session: ended, Number: 2}, appendOp("a", "x"), partd.ErrSessionExpired)
	if reissued := e.newSession(); reissued == session || reissued == ended {
		e.Fatalf("session %d was issued again after reopening", reissued)
	}
	tag.Number++
	e.expectApply(tag, partd.Operation{Change: partd.ChangeDrop}, true)
	e.append(entry("b", "1"))
	e.reopen()
	e.expectApply(tag, partd.Operation{Change: partd.ChangeDrop}, false)
	e.expectModel("retries after reopening", model{"b": "1"})
}
