package objstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"strconv"
	"strings"
)

// simulatedRecord is a record that a writer tried to commit.
type simulatedRecord struct {
	op        operation
	body      []byte // the record without its head
	ops       []simulatedOp
	isApplied bool
	isRefused bool // the writer got an error saying that the record has no effect
}

type simulatedOp struct {
	kind       simulatedKind
	key, value string
}

type simulatedKind uint8

const (
	simulatedAppend simulatedKind = iota
	simulatedSet
	simulatedDelete
	simulatedOnce
	simulatedDrop
)

func (o *simulatedOp) apply(state map[string]string) {
	switch o.kind {
	case simulatedAppend:
		state[o.key] += o.value
	case simulatedSet:
		state[o.key] = o.value
	case simulatedDelete:
		delete(state, o.key)
	case simulatedOnce:
		if _, exists := state[o.key]; !exists {
			state[o.key] = o.value
		}
	case simulatedDrop:
		clear(state)
	}
}

// parseCreated parses the object of a log record or of a waiting record. ok is false for other objects.
func (r *crashRun) parseCreated(name string, data []byte) (rec *record, ok bool) {
	number, isLog := strings.CutPrefix(name, "log/")
	n, _ := strconv.ParseUint(number, 10, 64)
	if m, isWaiting := parseMember(Object{Name: name}); isWaiting {
		n, isLog = m.number, true
	}
	if !isLog {
		return nil, false
	}
	s, err := r.bucket.object(storeName)
	if err != nil {
		return nil, false
	}
	format, err := parseStore(s)
	if err != nil {
		return nil, false
	}
	rec, err = parseRecord(format, n, data)
	return rec, err == nil
}

// noteRecord notes a record's operations: all operations in p.buffer, or the one in p.separate.
func (p *process) noteRecord(name string, data []byte) {
	rec, ok := p.run.parseCreated(name, data)
	if !ok || rec.op == opGroup {
		return
	}
	key := member{writer: rec.writer, seq: rec.seq}
	sim := p.run.records[key]
	if sim == nil || sim.isRefused {
		sim = &simulatedRecord{}
		p.records = append(p.records, sim)
		p.run.records[key] = sim
	}
	body := data[recordHeadLen:]
	switch {
	case rec.op == sim.op && bytes.Equal(body, sim.body): // another attempt
		return
	case sim.isApplied && p.run.err == nil:
		p.run.err = fmt.Errorf("process %d writes another record %d, although the log contains one", p.index, rec.seq)
	case rec.op != opEntries:
		sim.ops, p.separate, p.own = p.separate, nil, sim
	case sim.op == opEntries: // the previous attempt created nothing, and the record now contains more
		sim.ops, p.buffer = append(sim.ops, p.buffer...), nil
	default:
		sim.ops, p.buffer = p.buffer, nil
	}
	sim.op, sim.body = rec.op, body
}

func (m *Memory) object(name string) ([]byte, error) {
	b, err := m.ReadRange(context.Background(), name, 0, -1)
	if err != nil {
		return nil, err
	}
	return io.ReadAll(b)
}

// deliver carries out a request, and applies the records that it adds to the log.
func (r *crashRun) deliver(q *request) error {
	ctx := context.Background()
	switch q.kind {
	case "delete":
		return r.bucket.Delete(ctx, q.name)
	case "create":
		if err := r.bucket.Create(ctx, q.name, q.data); err != nil {
			return err
		}
	default:
		return nil // the process reads after the answer
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec, ok := r.parseCreated(q.name, q.data)
	switch {
	case !ok || !strings.HasPrefix(q.name, "log/"):
	case rec.op == opGroup:
		r.counts.groups++
		for _, m := range rec.members {
			b, err := r.bucket.object(m.name())
			waiting, ok := r.parseCreated(m.name(), b)
			if err != nil || !ok {
				return fmt.Errorf("group %s names the record %s, which cannot be read: %w", q.name, m.name(), err)
			}
			r.apply(waiting, m.name())
		}
	default:
		r.apply(rec, "")
	}
	return nil
}

// apply applies a record of the log, unless an earlier group contained it. mu must be held.
func (r *crashRun) apply(rec *record, object string) {
	sim := r.records[member{writer: rec.writer, seq: rec.seq}]
	if sim.isApplied {
		return
	}
	if sim.isRefused && r.err == nil {
		r.err = fmt.Errorf("record %d of writer %s is in the log, although the writer got an error with a known outcome", rec.seq, rec.writer)
	}
	sim.isApplied = true
	state := maps.Clone(r.states[len(r.states)-1])
	for i := range sim.ops {
		sim.ops[i].apply(state)
	}
	r.states = append(r.states, state)
	if rec.op == opDrop {
		maps.DeleteFunc(r.live, func(name string, _ bool) bool { return strings.HasPrefix(name, "seg/") })
	}
	if object != "" {
		r.live[object] = true
	}
	for _, part := range rec.parts {
		if !part.inline {
			r.live[segmentName(rec.writer, part.segmentNumber)] = true
		}
	}
}
