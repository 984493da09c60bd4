package remote

import "github.com/go-partd/partd"

// Room decides whether a store may grow, by a quota or by the free space that
// must remain on the disk. Only appends and sets need room.
type Room interface {
	// Take admits a change that adds this number of entries and bytes. Its error is
	// the answer to the request, and no part of the request is applied; clients
	// recognize ENOSPC and EDQUOT.
	Take(entries int, bytes int64) (taken int64, err error)
	// Done is called with the result of Take when the change has ended, whether it
	// succeeded or not. It is called with 0 after a change that needs no room and may
	// have freed some.
	Done(taken int64)
}

// roomError is why a Room refused a change: with a quota, that is no fault of the store.
type roomError struct{ error }

func (e *roomError) Unwrap() error { return e.error }

// ifRoom makes a change for which there is room.
func ifRoom(room Room, op partd.Operation, do func() (bool, error)) (applied bool, err error) {
	if room == nil {
		return do()
	}
	if op.Change == partd.ChangeDelete || op.Change == partd.ChangeDrop {
		defer room.Done(0)
		return do()
	}
	bytes := int64(0)
	for i := range op.Entries {
		bytes += int64(len(op.Entries[i].Key) + len(op.Entries[i].Value))
	}
	taken, err := room.Take(len(op.Entries), bytes)
	if err != nil {
		return false, &partd.Error{Op: mutation(op.Change).String(), Err: &roomError{err}}
	}
	defer room.Done(taken)
	return do()
}
