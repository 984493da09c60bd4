package storeerror

import "fmt"

// Package partd documents these limits, under the same names.
const (
	MaxKeyLen   = 1<<16 - 1
	MaxValueLen = 1<<31 - 1
	MaxBatchLen = 1<<32 - 1
	MaxParts    = 1 << 16
)

// Error has the fields of partd.Error, so that a *Error can be converted to a *partd.Error.
type Error struct {
	Op, Key string
	HasKey  bool
	Path    string
	Err     error
}

type entry = struct {
	Key   string
	Value []byte
}

// CheckEntries returns the total length of the values in bytes, or an error if the batch exceeds a
// limit. E is partd.Entry, which this package cannot import.
func CheckEntries[E ~entry](op string, entries []E) (valueBytes int64, _ *Error) {
	var keyBytes int64
	for i := range entries {
		e := entry(entries[i])
		if len(e.Key) > MaxKeyLen || len(e.Value) > MaxValueLen {
			return 0, tooLargeError(op, e.Key, len(e.Value))
		}
		keyBytes += int64(len(e.Key))
		valueBytes += int64(len(e.Value))
	}
	if keyBytes+valueBytes > MaxBatchLen {
		return 0, &Error{Op: op, Err: fmt.Errorf(
			"%w: a batch of %d entries holds %d bytes, the limit is %d: append it in parts",
			ErrTooLarge, len(entries), keyBytes+valueBytes, int64(MaxBatchLen))}
	}
	return valueBytes, nil
}

// CheckKeys returns an error if a key is too long.
func CheckKeys(op string, keys []string) *Error {
	for _, k := range keys {
		if len(k) > MaxKeyLen {
			return tooLargeError(op, k, 0)
		}
	}
	return nil
}

// CheckPart returns an error unless parts is valid, and part is in [0, parts).
func CheckPart(part, parts int) *Error {
	if parts < 1 || parts > MaxParts || part < 0 || part >= parts {
		return &Error{Op: "scan", Err: fmt.Errorf(
			"part %d of %d: parts are numbered from 0, and there are 1 to %d", part, parts, MaxParts)}
	}
	return nil
}

func tooLargeError(op, key string, valueLen int) *Error {
	err := fmt.Errorf("%w: the value has %d bytes, the limit is %d: append it in parts", ErrTooLarge, valueLen, MaxValueLen)
	if len(key) > MaxKeyLen {
		err = fmt.Errorf("%w: the key has %d bytes, the limit is %d", ErrTooLarge, len(key), MaxKeyLen)
	}
	return &Error{Op: op, Key: key, HasKey: true, Err: err}
}
