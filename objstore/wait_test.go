package objstore

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// contendedStore opens a store that always loses the race for a log number, so its records wait for a group
// (a commit of several records). beforeGroup, if not nil, is called before each attempt at a group.
func contendedStore(t *testing.T, b Bucket, o Options, beforeGroup func()) *Store {
	rival := open(t, b, Options{})
	s := open(t, b, o)
	s.bucket = &faultyBucket{Bucket: b, create: func(ctx context.Context, name string, data []byte) error {
		if strings.HasPrefix(name, "log/") {
			if operation(data[12]) != opGroup {
				appendAndFlush(t, rival, "rival", "x")
			} else if beforeGroup != nil {
				beforeGroup()
			}
		}
		return b.Create(ctx, name, data)
	}}
	return s
}

func appendAndFlush(t testing.TB, s *Store, key, value string) {
	t.Helper()
	err := s.Append(t.Context(), partd.Entry{Key: key, Value: []byte(value)})
	must.Do(t, errors.Join(err, s.Flush(t.Context())))
}

// wantValue checks a key's value with a newly opened store.
func wantValue(t testing.TB, b Bucket, key, want string) {
	t.Helper()
	if v, err := readValue(t, b, key); err != nil || v != want {
		t.Errorf("key %q has the value %.100q (error %v), want %.100q", key, v, err, want)
	}
}

// readValue reads a key with a newly opened store.
func readValue(t testing.TB, b Bucket, key string) (string, error) {
	t.Helper()
	s := open(t, b, Options{ReadOnly: true})
	v, err := s.Get(t.Context(), key)
	if err != nil {
		return "", err
	}
	return string(v[0]), nil
}

// abandonedStore returns a store that died after it created a waiting record, and before it created
// a group.
func abandonedStore(t *testing.T, b Bucket, o Options, key, value string) *Store {
	ctx, die := context.WithCancel(t.Context())
	s := contendedStore(t, b, o, nil)
	l := s.bucket.(*faultyBucket)
	create := l.create
	l.create = func(ctx context.Context, name string, data []byte) error {
		err := create(ctx, name, data)
		if strings.HasPrefix(name, waitPrefix) {
			die()
		}
		return err
	}
	must.Do(t, s.Append(ctx, partd.Entry{Key: key, Value: []byte(value)}))
	if err := s.Flush(ctx); !errors.Is(err, partd.ErrUnknownOutcome) || !errors.Is(err, context.Canceled) {
		t.Fatalf("Flush() error = %v, want both %v and %v", err, partd.ErrUnknownOutcome, context.Canceled)
	}
	l.create = nil
	return s
}

// TestDeathWhileWaiting checks that another waiting writer commits the waiting record of a dead writer
// if it finds the record, and that the record is applied only once if the dead writer comes back.
func TestDeathWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		foundByOther, writerReturns bool
		want                        string
	}{
		{false, false, "4;"},
		{false, true, "1;2;4;3;"},
		{true, false, "4;1;"},
		{true, true, "4;1;2;3;"},
	} {
		b := new(Memory)
		var dead *Store
		attempts := 0
		survivor := contendedStore(t, b, Options{}, func() {
			if attempts++; attempts == 1 && c.foundByOther { // another writer wins this log number, so the next group contains the record
				dead = abandonedStore(t, b, Options{}, "k", "1;")
			}
		})
		if !c.foundByOther {
			dead = abandonedStore(t, b, Options{}, "k", "1;")
			wantValue(t, b, "k", "")
		}
		if c.writerReturns && !c.foundByOther {
			appendAndFlush(t, dead, "k", "2;")
		}
		appendAndFlush(t, survivor, "k", "4;")
		if c.writerReturns && c.foundByOther {
			appendAndFlush(t, dead, "k", "2;")
		}
		if c.writerReturns {
			appendAndFlush(t, dead, "k", "3;")
		}
		if v, err := readValue(t, b, "k"); err != nil || v != c.want {
			t.Errorf("%+v: the value is %q (error %v), want %q", c, v, err, c.want)
		}
	}
}

// commitInOthersGroup lets each of two stores create a record that waits to be committed. The second
// store commits both records in its group. Then commitInOthersGroup calls beforeRead with the first
// store's bucket, and the first store finds its record in that group. It returns the first store
// and the error of its flush. If isEarly is set, the second store's group exists before the first
// store tries to create one.
func commitInOthersGroup(t *testing.T, b Bucket, isEarly bool, beforeRead func(bucket *faultyBucket)) (first *Store, err error) {
	waits, proceed, done := make(chan bool), make(chan bool), make(chan error)
	var once sync.Once
	second := contendedStore(t, b, Options{}, func() {
		once.Do(func() {
			close(waits)
			<-proceed
		})
	})
	go func() {
		err := second.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("2;")})
		done <- errors.Join(err, second.Flush(t.Context()))
	}()
	<-waits // the second store's first group contains only its own record, and will lose its log number to another writer
	attempts := 0
	commitBoth := func() {
		close(proceed)
		must.Check(t, <-done)
		beforeRead(first.bucket.(*faultyBucket))
	}
	first = contendedStore(t, b, Options{}, func() {
		if attempts++; attempts == 1 && !isEarly {
			commitBoth()
		}
	})
	if isEarly {
		l := first.bucket.(*faultyBucket)
		create := l.create
		l.create = func(ctx context.Context, name string, data []byte) error {
			err := create(ctx, name, data)
			if strings.HasPrefix(name, waitPrefix) {
				commitBoth()
			}
			return err
		}
	}
	if err = first.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("1;")}); err == nil {
		err = first.Flush(t.Context())
	}
	if want := map[bool]int{false: 1, true: 0}[isEarly]; attempts != want {
		t.Errorf("the writer tried %d log numbers, want %d: another writer's group already contains its record", attempts, want)
	}
	return first, err
}

// TestRecordInSeveralGroups checks that each record is applied once, although several groups name it.
// One writer finds its record in another writer's group. Another writer creates a group with records
// that readers have already applied.
func TestRecordInSeveralGroups(t *testing.T) {
	b := new(Memory)
	first := must.Get(commitInOthersGroup(t, b, false, func(*faultyBucket) {}))(t)
	attempts := 0
	last := contendedStore(t, b, Options{}, func() {
		if attempts++; attempts == 1 {
			appendAndFlush(t, contendedStore(t, b, Options{}, nil), "k", "3;")
		}
	})
	appendAndFlush(t, last, "k", "4;")
	appendAndFlush(t, first, "k", "5;")
	wantValue(t, b, "k", "2;1;3;4;5;")
}

// TestGroupsAreReadAgain checks that a writer does not acknowledge its record if another writer
// overwrites the group that names the record.
func TestGroupsAreReadAgain(t *testing.T) {
	for _, isEarly := range []bool{false, true} {
		b := new(Memory)
		first, err := commitInOthersGroup(t, b, isEarly, func(l *faultyBucket) {
			l.read = func(name string, _, _ int64, data []byte) ([]byte, error) {
				r, err := parseRecord(open(t, b, Options{}).format, 4, data)
				if isEarly && name != logName(4) {
					return data, nil
				}
				l.read = nil // later reads return another group
				if err != nil || name != logName(4) || len(r.members) != 2 {
					t.Errorf("read %s with %d members (error %v), want %s with 2 members", name, len(r.members), err, logName(4))
				}
				r.members = r.members[:1]
				b.objects[name] = memoryObject{r.encode(open(t, b, Options{}).format), time.Now()}
				return data, nil
			}
		})
		if !errors.Is(err, errTwoWinners) || !errors.Is(err, partd.ErrUnknownOutcome) {
			t.Errorf("Flush() error = %v, want both %v and %v", err, errTwoWinners, partd.ErrUnknownOutcome)
		}
		must.Fail(t, first.Flush(t.Context()), errTwoWinners, "second Flush()")
		wantValue(t, b, "k", "2;")
	}
}

// TestGroupOfEarlierRecord checks that a group that names an earlier record of a writer does not commit the current
// one.
func TestGroupOfEarlierRecord(t *testing.T) {
	b := new(Memory)
	s := open(t, b, Options{})
	appendAndFlush(t, s, "k", "1;")
	earlier := member{1, 100, s.writer, s.committer.lastSeq}
	r := record{number: 1, op: opGroup, writer: s.writer, seq: s.committer.lastSeq, members: []member{earlier}}
	must.Do(t, b.Create(t.Context(), logName(1), r.encode(s.format)))
	c := &commitment{objects: &s.objects, seq: s.committer.lastSeq + 1, number: 1, member: member{1, 100, s.writer, s.committer.lastSeq + 1}}
	if isMember, err := c.holdsRecord(t.Context()); err != nil || isMember {
		t.Errorf("holdsRecord() = %v, %v; want false", isMember, err)
	}
}

// TestNumberThatCannotBeRead checks that a writer does not wait forever for an existing object that cannot be read.
func TestNumberThatCannotBeRead(t *testing.T) {
	b := new(Memory)
	s := contendedStore(t, b, Options{RetryFor: 50 * time.Millisecond}, nil)
	l := s.bucket.(*faultyBucket)
	create := l.create
	l.create = func(ctx context.Context, name string, data []byte) error {
		if strings.HasPrefix(name, "log/") && operation(data[12]) == opGroup {
			return fs.ErrExist
		}
		return create(ctx, name, data)
	}
	must.Do(t, s.Append(t.Context(), partd.Entry{Key: "k", Value: []byte("1;")}))
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	if err := s.Flush(ctx); !errors.Is(err, partd.ErrUnknownOutcome) || ctx.Err() != nil || !strings.Contains(err.Error(), "cannot be read yet") {
		t.Errorf("Flush() error = %v, want %v with the text %q before the context ends", err, partd.ErrUnknownOutcome, "cannot be read yet")
	}
	l.create = create
	appendAndFlush(t, s, "k", "2;")
	wantValue(t, b, "k", "1;2;")
}
