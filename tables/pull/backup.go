package pull

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/parallel"
)

const (
	backupFiles = "files/"   // then the hash: nodes' files and manifests as they are
	backupNames = "backups/" // then the name: what the backup has
)

// Copied says what a backup, or a restore, did with a table.
type Copied struct {
	Name    string
	Version int64
	Rows    int64
	Files   int   // with the manifest, that were sent; those that are there already are not
	Bytes   int64 // in them
}

// BackupInfo describes a backup in a listing.
type BackupInfo struct {
	Name string
	Time time.Time // by the clock of the bucket
}

// backup is the object that makes files a backup. It is made last.
type backup struct {
	ID     string   `json:"id"`
	Tables []record `json:"tables"`
}

// vault is a bucket for backups.
type vault struct {
	objstore.Bucket
	retryFor time.Duration
}

func newVault(b objstore.Bucket) vault {
	if _, local := b.(*objstore.Directory); local {
		return vault{b, 0}
	}
	return vault{b, time.Minute}
}

func backupObject(name string) string { return backupNames + url.PathEscape(name) + ".json" }

// create makes an object. Where there is one it has to be the same, as after an answer
// that was lost.
func (v vault) create(ctx context.Context, name string, data []byte) error {
	err := objstore.Retry(ctx, v.retryFor, int64(len(data)), func(ctx context.Context) error { return v.Create(ctx, name, data) })
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	has, err2 := v.read(ctx, name, int64(len(data)))
	if err2 == nil && bytes.Equal(has, data) {
		return nil
	}
	return errors.Join(err, err2)
}

// read returns an object, or one byte more than most of it.
func (v vault) read(ctx context.Context, name string, most int64) (b []byte, err error) {
	err = objstore.Retry(ctx, v.retryFor, most, func(ctx context.Context) error {
		r, err := v.ReadRange(ctx, name, 0, -1)
		if err != nil {
			return err
		}
		b, err = io.ReadAll(io.LimitReader(r, most+1))
		return errors.Join(err, r.Close())
	})
	return b, err
}

// file returns a file that is what its name says.
func (v vault) file(ctx context.Context, hash string, size int64) ([]byte, error) {
	b, err := v.read(ctx, backupFiles+hash, size)
	if err == nil && (int64(len(b)) != size || hashOf(b) != hash) {
		err = &partd.CorruptError{Path: backupFiles + hash, Offset: -1, Err: errDamaged}
	}
	return b, err
}

// list returns the objects whose names begin with a prefix.
func (v vault) list(ctx context.Context, prefix string) (all []objstore.Object, err error) {
	err = objstore.Retry(ctx, v.retryFor, 0, func(ctx context.Context) error {
		all = nil
		for o, err := range v.List(ctx, prefix, "") {
			if err != nil {
				return err
			}
			all = append(all, o)
		}
		return nil
	})
	return all, err
}

// Backups returns the backups that a bucket has, oldest first.
func Backups(ctx context.Context, b objstore.Bucket) (all []BackupInfo, err error) {
	objects, err := newVault(b).list(ctx, backupNames)
	for _, o := range objects {
		name, err := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(o.Name, backupNames), ".json"))
		if err == nil && backupObject(name) == o.Name { // else it is not ours
			all = append(all, BackupInfo{name, o.Modified})
		}
	}
	slices.SortStableFunc(all, func(a, b BackupInfo) int { return a.Time.Compare(b.Time) })
	return all, err
}

// Backup puts the newest version of each table into a bucket, under a name. What is not
// here is fetched before. Files that the bucket has from earlier backups, of whatever node,
// are not sent again; with verify they are read, as are those that are sent, and replaced
// where they are damaged.
//
// A backup that was stopped has no name, and the next one goes on with what it left. The
// error wraps fs.ErrExist where there is a backup of the name.
func (n *Node) Backup(ctx context.Context, to objstore.Bucket, name string, verify bool) ([]Copied, error) {
	done, err := n.backup(ctx, newVault(to), name, verify)
	if err != nil {
		return nil, &Error{Op: "backup", Name: name, Err: err}
	}
	return done, nil
}

func (n *Node) backup(ctx context.Context, to vault, name string, verify bool) (done []Copied, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	names, err := Backups(ctx, to.Bucket)
	if err == nil && slices.ContainsFunc(names, func(i BackupInfo) bool { return i.Name == name }) {
		err = fmt.Errorf("there is a backup of this name: choose another one (%w)", fs.ErrExist)
	}
	if err != nil {
		return nil, err
	}
	files, err := to.list(ctx, backupFiles)
	if err != nil {
		return nil, err
	}
	has := map[string]int64{} // sizes
	for _, o := range files {
		has[strings.TrimPrefix(o.Name, backupFiles)] = o.Size
	}
	all, err := n.List(ctx)
	if err != nil {
		return nil, err
	}
	made := backup{ID: rand.Text()}
	for _, t := range all {
		m, rec, _, _, err := n.newest(ctx, t.Name, time.Time{}, time.Time{})
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", t.Name, err)
		}
		c := Copied{Name: rec.Name, Version: rec.Version, Rows: rec.Rows}
		n.disk.pin(rec.Manifest, 1)
		err = n.send(ctx, to, has, rec, m, verify, &c)
		n.disk.pin(rec.Manifest, -1)
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", t.Name, err)
		}
		made.Tables, done = append(made.Tables, rec), append(done, c)
	}
	b, err := json.Marshal(made)
	if err != nil {
		return nil, err
	}
	return done, to.create(ctx, backupObject(name), b)
}

// send puts those files of a version into a bucket that it lacks.
func (n *Node) send(ctx context.Context, to vault, has map[string]int64, r record, m *manifest, verify bool, done *Copied) error {
	var mu sync.Mutex
	all := append(slices.Clone(m.files), dataFile{Hash: r.Manifest, Size: r.Size})
	return parallel.Each(ctx, slices.Values(all), 0, func(ctx context.Context, f dataFile) error {
		size, there := has[f.Hash]
		right := there && size == f.Size
		if right && verify {
			_, err := to.file(ctx, f.Hash, f.Size)
			if right = err == nil; err != nil && !errors.Is(err, errDamaged) {
				return err
			}
		}
		if right {
			return nil
		}
		data, err := n.disk.read(f.Hash, f.Size)
		if err != nil {
			if err = n.mend(ctx, r, f.Hash, f.Size, err); err == nil {
				data, err = n.disk.read(f.Hash, f.Size)
			}
		}
		if err == nil && there {
			n.log.Warn("pull: a file of the backups is damaged, and is replaced", "table", r.Name, "file", f.Hash)
			err = objstore.Retry(ctx, to.retryFor, 0, func(ctx context.Context) error { return to.Delete(ctx, backupFiles+f.Hash) })
		}
		if err == nil {
			err = to.create(ctx, backupFiles+f.Hash, data)
		}
		if err == nil && verify {
			_, err = to.file(ctx, f.Hash, f.Size)
		}
		mu.Lock()
		defer mu.Unlock()
		done.Files++
		done.Bytes += f.Size
		return err
	})
}
