package icecat

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// KeyLifetime is the minimum time for which the catalog remembers an idempotency key, unless the key's scope has more
// than maxKeys newer keys.
const KeyLifetime = 24 * time.Hour

var maxKeys = 100_000 // limit on the keys in a scope

// ErrKeyExists means that a request with the same idempotency key has already been answered. Nothing was committed.
var ErrKeyExists = errors.New("a request with this idempotency key was answered before")

// Key is a request's idempotency key, with the answer to the request.
type Key struct {
	ID          string
	Fingerprint string // identifies the caller and the request
	Scope       string // the caller and the changed object; a caller's failed requests share a scope
	Status      int    // HTTP status
	Answer      string // body; "" if there is none, or if it contains the metadata at Location
	UUID        string // UUID of the table that the request committed; set by the commit
	Location    string // location of the metadata that the request committed; set by the commit
}

type keyContext struct{}

// WithKey returns a context for a request. The transaction that makes the request's change also records the key. If the
// key has already been recorded, the transaction fails with ErrKeyExists.
func WithKey(ctx context.Context, k *Key) context.Context {
	return context.WithValue(ctx, keyContext{}, k)
}

// KeyHooks returns the hook that records the key of ctx, or nil if ctx has no key.
func KeyHooks(ctx context.Context) []TxHook {
	if ctx.Value(keyContext{}) == nil {
		return nil
	}
	return []TxHook{(*transaction).recordKey}
}

// recordKey records the key of the transaction's context, if there is one. It also deletes some expired keys, and the
// oldest keys of the scope if it has too many.
func (t *transaction) recordKey() {
	k, _ := t.ctx.Value(keyContext{}).(*Key)
	if k == nil {
		return
	}
	k.UUID, k.Location = "", ""
	if len(t.changes) > 0 && t.changes[0].Result != nil {
		k.UUID, k.Location = t.changes[0].New.TableUUID().String(), t.changes[0].Result.MetadataLocation()
	}
	now := time.Now()
	t.exec(forgetKeys, now.Add(-KeyLifetime-time.Hour).UnixMilli())
	if t.exec(insertKey, k.ID, k.Fingerprint, k.Scope, now.UnixMilli(), k.Status, k.Answer, k.UUID, k.Location) == 0 && t.err == nil {
		t.err = ErrKeyExists
	}
	t.exec(trimKeys, k.Scope, maxKeys)
}

// AddKey records ctx's key in a separate transaction, for a request that changes nothing. If the key has already been
// recorded, it returns ErrKeyExists.
func (d *database) AddKey(ctx context.Context) error { return d.inTx(ctx, (*transaction).recordKey) }

// Key returns the recorded key with the given ID, or nil if there is none. If its fingerprint differs, the answer,
// which may be large, is omitted.
func (d *database) Key(ctx context.Context, id, fingerprint string) (*Key, error) {
	if d.readOnly { // nothing can be recorded
		return nil, nil
	}
	k := &Key{ID: id}
	err := d.readPool.QueryRowContext(ctx, selectKey, id, fingerprint).Scan(&k.Fingerprint, &k.Scope, &k.Status, &k.Answer, &k.UUID, &k.Location)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return k, explain(ctx, err)
}
