package remote

import "github.com/go-partd/partd"

// SpaceLimit decides whether a store may grow. It may enforce a quota or a minimum of
// free disk space. Only appends and sets need space.
type SpaceLimit interface {
	// Admit decides whether a change may add the given numbers of entries and bytes. If err is nil,
	// the server later passes admitted to Done. Otherwise the server does not apply the change, and
	// answers with the error. Clients recognize ENOSPC and EDQUOT.
	Admit(entries int, bytes int64) (admitted int64, err error)
	// Done is called with the result of Admit when the change has ended, even if it failed.
	// After a delete or a drop, which may have freed space, Done is called with 0.
	Done(admitted int64)
}

// limitError wraps the error from a SpaceLimit that rejected a change.
type limitError struct{ error }

func (e *limitError) Unwrap() error { return e.error }

// withinLimit applies a change if limit admits it. A nil limit admits every change.
func withinLimit(limit SpaceLimit, op partd.Operation, do func() (bool, error)) (applied bool, err error) {
	if limit == nil {
		return do()
	}
	if op.Change == partd.ChangeDelete || op.Change == partd.ChangeDrop {
		defer limit.Done(0)
		return do()
	}
	bytes := int64(0)
	for i := range op.Entries {
		bytes += int64(len(op.Entries[i].Key) + len(op.Entries[i].Value))
	}
	admitted, err := limit.Admit(len(op.Entries), bytes)
	if err != nil {
		return false, &partd.Error{Op: mutation(op.Change).String(), Err: &limitError{err}}
	}
	defer limit.Done(admitted)
	return do()
}
