package appendload

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"

	"github.com/cockroachdb/pebble"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/logstore"
)

// Target is a store under test.
type Target interface {
	Append(entries []partd.Entry) error
	// Flush writes all data and waits for background work.
	Flush() error
	// Scan calls handle for every key. It may pass a value b in several parts; isFirst is true
	// for the first part.
	Scan(handle func(key string, b []byte, isFirst bool) error) error
	Close() error
}

// Names lists the stores that Open supports.
var Names = []string{"logstore", "hashfiles", "hashfiles-bare", "hashfiles-streamed", "hashfiles-log", "pebble-best"}

// Open creates a store in an empty directory. The options are for logstore.
func Open(name, dir string, o *logstore.Options) (Target, error) {
	switch name {
	case "logstore":
		s, err := logstore.Open(dir, o)
		return &LogStore{S: s}, err
	case "hashfiles":
		return openHashFiles(dir)
	case "hashfiles-bare":
		files, err := openHashFiles(dir)
		return &bareFiles{files}, err
	case "hashfiles-streamed":
		files, err := openHashFiles(dir)
		return &streamedFiles{files}, err
	case "hashfiles-log":
		return openHashLog(dir)
	case "pebble-best":
		return openPebbleBest(dir)
	}
	return nil, fmt.Errorf("unknown store %q: use %v", name, Names)
}

// LogStore adapts a [logstore.Store] to Target.
type LogStore struct{ S *logstore.Store }

func (t *LogStore) Append(entries []partd.Entry) error {
	return t.S.Append(context.Background(), entries...)
}
func (t *LogStore) Flush() error { return t.S.Flush(context.Background()) }
func (t *LogStore) Close() error { return t.S.Close() }

func (t *LogStore) Scan(handle func(key string, b []byte, isFirst bool) error) error {
	return HandleChunks(t.S.Scan(context.Background()), handle)
}

// HandleChunks calls handle for each chunk.
func HandleChunks(chunks iter.Seq2[partd.Chunk, error], handle func(key string, b []byte, isFirst bool) error) error {
	for c, err := range chunks {
		if err != nil {
			return err
		}
		if err := handle(c.Key, c.Data, c.Offset == 0); err != nil {
			return err
		}
	}
	return nil
}

type silentLogger struct{}

func (silentLogger) Infof(string, ...any)  {}
func (silentLogger) Errorf(string, ...any) {}
func (silentLogger) Fatalf(f string, a ...any) {
	panic(fmt.Sprintf(f, a...))
}

// pebbleStore is Pebble with the fastest known settings for this load: there is no write-ahead log and no compaction,
// and each appended value has its own key: the entry's key and a sequence number.
type pebbleStore struct {
	db  *pebble.DB
	seq uint64
	key []byte
}

const sequenceLen = 8

func openPebbleBest(dir string) (Target, error) {
	db, err := pebble.Open(dir, &pebble.Options{
		DisableWAL: true, DisableAutomaticCompactions: true, MemTableSize: 64 << 20,
		MemTableStopWritesThreshold: 4, L0CompactionThreshold: 1 << 20, L0StopWritesThreshold: 1 << 20,
		Logger: silentLogger{},
	})
	return &pebbleStore{db: db}, err
}

func (p *pebbleStore) Append(entries []partd.Entry) error {
	b := p.db.NewBatch()
	for i := range entries {
		p.key = binary.BigEndian.AppendUint64(append(p.key[:0], entries[i].Key...), p.seq)
		p.seq++
		if err := b.Set(p.key, entries[i].Value, nil); err != nil {
			return err
		}
	}
	return errors.Join(b.Commit(pebble.NoSync), b.Close())
}

func (p *pebbleStore) Flush() error { return p.db.Flush() }
func (p *pebbleStore) Close() error { return p.db.Close() }

func (p *pebbleStore) Scan(handle func(key string, b []byte, isFirst bool) error) error {
	iter, err := p.db.NewIter(nil)
	if err != nil {
		return err
	}
	var key string
	for ok := iter.First(); ok; ok = iter.Next() {
		k := iter.Key()
		k = k[:len(k)-sequenceLen]
		isFirst := string(k) != key
		if isFirst {
			key = string(k)
		}
		if err := handle(key, iter.Value(), isFirst); err != nil {
			return errors.Join(err, iter.Close())
		}
	}
	return errors.Join(iter.Error(), iter.Close())
}
