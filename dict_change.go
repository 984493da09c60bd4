package partd

import (
	"context"
	"sync"

	"github.com/go-partd/partd/internal/base/keymap"
	"github.com/go-partd/partd/internal/base/sessiontab"
)

// dictBatch is the memory that an Append needs besides its entries.
type dictBatch struct {
	hashes []uint64
	order  []uint32 // indexes of the entries, stably sorted by shard
	sink   uint64   // result of Prefetch, stored so that the compiler keeps the memory reads in Prefetch
}

// maxPooledBatch is the maximum number of entries of a dictBatch that is reused.
const maxPooledBatch = 1 << 16

// Append adds each entry's value to the end of its key's value.
//
// It appends all entries in a shard under one lock, so that a reader sees either all or none of
// a batch's values for a key.
func (d *Dict) Append(ctx context.Context, entries ...Entry) error {
	valueBytes, err := checkEntries("append", entries)
	if err != nil {
		return err
	}
	if err := d.begin(ctx, "append"); err != nil {
		return err
	}
	defer d.end()
	b := d.batches.Get().(*dictBatch)
	ends, keyBytes := b.sort(d, entries)
	blocks, fits := d.data.Reserve(len(b.order), valueBytes+keyBytes)
	if !fits {
		return d.fail("append", errDictFull)
	}
	defer d.data.Unreserve(blocks)
	start := uint32(0)
	for i, end := range ends {
		if end > start {
			d.shards[i].append(b, entries, b.order[start:end])
		}
		start = end
	}
	if len(entries) <= maxPooledBatch {
		d.batches.Put(b)
	}
	return nil
}

// sort hashes the keys and fills b.order with the entries whose values are not empty, sorted
// by shard. It returns the end of each shard's entries in b.order, and the total length of the keys.
func (b *dictBatch) sort(d *Dict, entries []Entry) (ends [dictShards]uint32, keyBytes int64) {
	if cap(b.hashes) < len(entries) {
		b.hashes = make([]uint64, len(entries))
		b.order = make([]uint32, len(entries))
	}
	b.hashes = b.hashes[:len(entries)]
	for i := range entries {
		b.hashes[i] = keymap.Hash(d.seed, entries[i].Key)
		keyBytes += int64(len(entries[i].Key))
		if len(entries[i].Value) > 0 {
			ends[b.hashes[i]>>(64-dictShardBits)]++
		}
	}
	sum := uint32(0)
	for i, n := range ends {
		ends[i] = sum
		sum += n
	}
	b.order = b.order[:sum]
	for i, hash := range b.hashes {
		if len(entries[i].Value) > 0 {
			shard := hash >> (64 - dictShardBits)
			b.order[ends[shard]] = uint32(i)
			ends[shard]++
		}
	}
	return ends, keyBytes
}

func (s *dictShard) append(b *dictBatch, entries []Entry, order []uint32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// With a million keys, every lookup below would miss the cache. Prefetch makes the misses
	// overlap.
	b.sink = s.keys.Prefetch(b.hashes, order)
	for _, i := range order {
		e := &entries[i]
		id := s.keys.Find(b.hashes[i], e.Key)
		if id == 0 {
			id = s.keys.Insert(b.hashes[i], e.Key)
		}
		s.data.Append(s.keys.Val(id), e.Value)
		s.bytes += int64(len(e.Value))
	}
	s.updateIndexBytes()
}

type dictSessions struct {
	mu     sync.Mutex // no other lock is taken while mu is held
	issued uint64     // number of the last session issued
	secret []byte     // for deriving session tokens
	byID   sessiontab.Table[*dictSession]
}

type dictSession struct {
	// mu is held while an operation is applied, so that a concurrent retry waits for the
	// result. It is taken before Dict.gate, and never together with dictSessions.mu.
	mu            sync.Mutex
	ended         bool
	lastOperation sessiontab.Operation
}

// NewSession issues a session, which lasts as long as the store. The store keeps at most
// 8,192 sessions. To make space, NewSession forgets an unused session, or else the least
// recently used one.
func (d *Dict) NewSession(ctx context.Context) (uint64, error) {
	if err := d.begin(ctx, "new session"); err != nil {
		return 0, err
	}
	defer d.end()
	t := &d.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setUp()
	t.issued++
	if t.byID.Len() >= sessiontab.MaxSessions {
		t.byID.Remove(t.byID.Oldest(sessiontab.MaxSessions))
	}
	t.byID.Add(t.issued, new(dictSession))
	return t.issued, nil
}

// setUp creates the secret, unless it exists. mu must be held.
func (t *dictSessions) setUp() {
	if t.secret == nil {
		t.issued, t.secret = sessiontab.NewIncarnation(), sessiontab.NewSecret()
	}
}

// SessionToken returns a session's token.
func (d *Dict) SessionToken(ctx context.Context, session uint64) (SessionToken, error) {
	if err := d.begin(ctx, "session token"); err != nil {
		return SessionToken{}, err
	}
	defer d.end()
	t := &d.sessions
	t.mu.Lock()
	defer t.mu.Unlock()
	t.setUp()
	return SessionToken(sessiontab.NewToken(t.secret, session)), nil
}

// CheckSession returns an error unless token is the session's token.
func (d *Dict) CheckSession(ctx context.Context, session uint64, token SessionToken) error {
	want, err := d.SessionToken(ctx, session)
	if err != nil {
		return err
	}
	return want.Check(session, token)
}

// EndSession waits for the session's running operation, and then forgets the session. Ending
// an unknown session is not an error.
func (d *Dict) EndSession(ctx context.Context, session uint64) error {
	if err := d.begin(ctx, "end session"); err != nil {
		return err
	}
	d.end()
	t := &d.sessions
	t.mu.Lock()
	s, ok := t.byID.Get(session)
	t.byID.Remove(session)
	t.mu.Unlock()
	if !ok {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	return nil
}

// Apply applies an operation unless its tag was applied before; see [Applier].
func (d *Dict) Apply(ctx context.Context, tag Tag, op Operation) (applied bool, err error) {
	if err := op.Check(tag); err != nil {
		return false, err
	}
	if err := d.begin(ctx, "apply"); err != nil {
		return false, err
	}
	d.end()
	t := &d.sessions
	t.mu.Lock()
	s, ok := t.byID.Get(tag.Session)
	if ok {
		t.byID.Use(tag.Session, s)
	}
	t.mu.Unlock()
	if !ok {
		return false, d.fail("apply", sessiontab.ExpiredError(tag.Session))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return false, d.fail("apply", sessiontab.ExpiredError(tag.Session))
	}
	operation := sessiontab.Operation{Number: tag.Number, CRC: tag.CRC}
	if isNext, err := s.lastOperation.IsNext(tag.Session, operation); err != nil {
		return false, d.fail("apply", err)
	} else if !isNext {
		return false, nil
	}
	if err := op.Do(ctx, d); err != nil {
		return false, err
	}
	s.lastOperation = operation
	return true, nil
}
