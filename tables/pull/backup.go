package pull

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

const (
	// Objects named backup-files/HASH are copies of the nodes' files and manifests. A node's directory has
	// no folder of this name, so the directory can also hold backups.
	backupFiles = "backup-files/"
	backupNames = "backups/" // prefix of the objects that list the tables of a backup
)

// Copied reports what a backup or restore did with one table.
type Copied struct {
	Name    string
	Version int64
	Rows    int64
	Files   int   // files transferred, including the manifest; files that the target already has do not count
	Bytes   int64 // bytes of the files transferred
}

// BackupInfo describes a backup in a listing.
type BackupInfo struct {
	Name string
	Time time.Time // creation time, by the bucket's clock
}

// backup is the object that lists a backup's tables. It is created after all of the backup's files.
type backup struct {
	ID     string  `json:"id"`
	Tables []entry `json:"tables"`
}

// entry is a record that UnmarshalJSON validates. Otherwise, a forged list such as [{},{},…] could decode to so many
// empty records that they fill the memory.
type entry struct{ record }

// UnmarshalJSON decodes and checks a record.
func (e *entry) UnmarshalJSON(b []byte) error {
	if err := json.Unmarshal(b, &e.record); err != nil {
		return err
	}
	return e.check(keyOf(e.Name))
}

func backupBucket(b objstore.Bucket) content.Bucket {
	retryFor := time.Minute
	if _, local := b.(*objstore.Directory); local {
		retryFor = 0
	}
	return content.Bucket{Bucket: b, Prefix: backupFiles, RetryFor: retryFor}
}

func backupObject(name string) string { return backupNames + url.PathEscape(name) + ".json" }

// Backups returns the backups in a bucket, oldest first.
func Backups(ctx context.Context, b objstore.Bucket) (all []BackupInfo, err error) {
	objects, err := backupBucket(b).Objects(ctx, backupNames)
	for _, o := range objects {
		name, err := url.PathUnescape(strings.TrimSuffix(strings.TrimPrefix(o.Name, backupNames), ".json"))
		if err == nil && backupObject(name) == o.Name { // skip objects that are not backups
			all = append(all, BackupInfo{name, o.Modified})
		}
	}
	slices.SortStableFunc(all, func(a, b BackupInfo) int { return a.Time.Compare(b.Time) })
	return all, err
}

// Backup copies the newest version of every table to a bucket, under the given name. It first fetches files that are
// missing from this directory. It reuses files that earlier backups sent to the bucket. If verify is true, Backup reads
// the reused files, replaces damaged ones, and checks the files that it sends.
//
// An interrupted backup is not listed, but the next backup reuses its files. If a backup with this name already exists,
// the error wraps fs.ErrExist.
func (n *Node) Backup(ctx context.Context, to objstore.Bucket, name string, verify bool) (done []Copied, err error) {
	defer wrapError("backup", name, &err)
	if err := n.checkOpened(); err != nil {
		return nil, err
	}
	return n.backup(ctx, backupBucket(to), name, verify)
}

func (n *Node) backup(ctx context.Context, to content.Bucket, name string, verify bool) (done []Copied, err error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if len(backupObject(name)) > len(backupNames)+255 {
		return nil, fmt.Errorf("the file name %s would be too long: choose a shorter name, or one with ASCII letters only", backupObject(name))
	}
	if _, err := to.Read(ctx, backupObject(name), 0); err == nil {
		return nil, fmt.Errorf("a backup with this name already exists: choose another name (%w)", fs.ErrExist)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err // for example, if the bucket rejects the object's name
	}
	files, err := to.Objects(ctx, backupFiles)
	if err != nil {
		return nil, err
	}
	sizes := map[string]int64{} // sizes of files that are already in the bucket, by hash
	for _, o := range files {
		sizes[strings.TrimPrefix(o.Name, backupFiles)] = o.Size
	}
	all, err := n.newestVersions(ctx)
	if err != nil {
		return nil, err
	}
	listing := backup{ID: rand.Text()}
	for _, t := range all {
		v, _, err := n.fetchNewest(ctx, t.Name, time.Time{}, time.Time{})
		if err == nil && v.record.Version < t.Version {
			err = fmt.Errorf("no node that has the newest version, %d, responds: %w", t.Version, ErrSyncFailed)
		}
		c := Copied{Name: t.Name, Version: v.record.Version, Rows: v.Rows}
		if err == nil {
			n.disk.pin(v.Manifest, 1)
			err = n.send(ctx, to, sizes, v, verify, &c)
			n.disk.pin(v.Manifest, -1)
		}
		if err != nil {
			return nil, fmt.Errorf("table %q: %w", t.Name, err)
		}
		listing.Tables, done = append(listing.Tables, entry{v.record}), append(done, c)
	}
	b, err := json.Marshal(listing)
	if err == nil && len(b) > maxManifest {
		err = fmt.Errorf("a backup cannot list %d tables: %w", len(done), partd.ErrTooLarge)
	}
	if err != nil {
		return nil, err
	}
	if err := to.Create(ctx, backupObject(name), b); err != nil {
		return nil, err
	}
	return done, nil
}

// newestVersions returns the newest versions of all tables, sorted by name. It fails if the registry lost a record that
// no node has restored yet, because the backup would lack that table but seem complete.
func (n *Node) newestVersions(ctx context.Context) ([]record, error) {
	if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
		return nil, err
	}
	all := map[string]record{}
	for _, r := range n.reg.records() {
		all[keyOf(r.Name)] = r
	}
	err := n.disk.heads(func(key string, h head) error {
		if h.Version > all[key].Version {
			all[key] = h.record
		}
		return nil
	})
	for _, key := range n.reg.heldKeys() {
		if err == nil && all[key].Version == 0 && n.reg.heldVersion(key) > 0 {
			err = registryError(fmt.Errorf("the registry lost the record of the table with the key %s: "+
				"start a node that has the table, so that it restores the record, or call Forget", key))
		}
	}
	return slices.SortedFunc(maps.Values(all), func(a, b record) int { return strings.Compare(a.Name, b.Name) }), err
}

// send copies a version's missing files to a bucket and counts them in done. sizes maps the hashes of the bucket's files
// to their sizes.
func (n *Node) send(ctx context.Context, to content.Bucket, sizes map[string]int64, v version, verify bool, done *Copied) error {
	var mu sync.Mutex
	all := []content.HashNamed{v.manifestFile()}
	for _, f := range v.files {
		all = append(all, f.HashNamed)
	}
	return parallel.Each(ctx, slices.Values(all), 0, func(ctx context.Context, f content.HashNamed) error {
		mu.Lock()
		size, exists := sizes[f.Hash]
		mu.Unlock()
		intact := exists && size == f.Size
		if intact && verify {
			err := to.Check(ctx, f)
			intact = err == nil
			if err != nil && !errors.Is(err, content.ErrDamaged) {
				return err
			}
		}
		if intact {
			return nil
		}
		data, err := readAll(n.open(ctx, v.record, f))
		switch {
		case err != nil:
		case exists:
			n.log.Warn("pull: the backup replaces a damaged file", "table", v.record.Name, "file", f.Hash)
			err = to.Replace(ctx, f, data)
		default:
			err = to.Create(ctx, backupFiles+f.Hash, data)
		}
		if err == nil && verify {
			err = to.Check(ctx, f)
		}
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			sizes[f.Hash] = f.Size
		}
		done.Files++
		done.Bytes += f.Size
		return err
	})
}
