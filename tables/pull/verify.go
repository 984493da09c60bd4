package pull

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/go-partd/partd/internal/base/canceled"
	"github.com/go-partd/partd/tables/internal/files/content"
)

// Finding describes a problem that Verify found.
type Finding struct {
	Node     string `json:"node"`  // address of the node; "" means this node
	Table    string `json:"table"` // "" if the problem concerns the whole node
	File     string `json:"file,omitempty"`
	Problem  string `json:"problem"`
	Repaired bool   `json:"repaired"` // whether Verify has repaired the problem
}

// Verify checks all files of the newest versions in this directory against their hashes. It makes the other live nodes
// do the same and compares their versions with the registry. It replaces damaged files with intact ones from other
// nodes. Problems are reported as findings; an error means that the check itself failed.
func (n *Node) Verify(ctx context.Context) (all []Finding, err error) {
	if err := n.checkOpened(); err != nil {
		return nil, err
	}
	defer wrapError("verify", n.disk.dir, &err)
	if err := n.sync(ctx, n.opts.SyncTimeout); err != nil {
		return nil, err
	}
	all, err = n.verifyOwn(ctx)
	if err != nil {
		return all, err
	}
	peers := n.reg.peers(record{})
	for _, p := range peers {
		const limit = 1 << 20 // bytes of findings
		var findings []Finding
		if err := n.askJSON(ctx, http.MethodPost, p.address+verifyPath, limit, &findings); err != nil {
			findings = []Finding{{Problem: err.Error()}}
		}
		for i := range findings {
			findings[i].Node = p.address
		}
		all = append(all, findings...)
	}
	for _, t := range n.reg.records() {
		heads, _ := n.askHeads(ctx, keyOf(t.Name), peers) // nodes that do not respond are already reported as findings
		for p, h := range heads {
			if h.Version > t.Version || h.Version == t.Version && h.Manifest != t.Manifest {
				problem := fmt.Sprintf("the node's version %d differs from the registry's newest version, %d", h.Version, t.Version)
				all = append(all, Finding{Node: p.address, Table: t.Name, Problem: problem})
			}
		}
	}
	return all, nil
}

func (n *Node) verifyOwn(ctx context.Context) ([]Finding, error) {
	n.verifyMu.Lock()
	defer n.verifyMu.Unlock()
	all := []Finding{}
	err := n.disk.heads(func(key string, h head) error {
		check := func(f content.HashNamed) error {
			file, err := n.disk.Open(f)
			if err == nil {
				return file.Close()
			}
			if !errors.Is(err, content.ErrDamaged) {
				// Only damage is a finding. A file can be missing because only a range was
				// loaded, or because another process is changing the files.
				return nil
			}
			finding := Finding{Table: h.Name, File: f.Hash, Problem: err.Error(), Repaired: true}
			if err := n.refetch(ctx, h.record, f, err); err != nil {
				finding.Problem, finding.Repaired = err.Error(), false
			}
			all = append(all, finding)
			return canceled.Err(ctx)
		}
		if err := check(h.manifestFile()); err != nil {
			return err
		}
		m, err := n.manifest(ctx, h.record)
		if err != nil {
			all = append(all, Finding{Table: h.Name, File: h.Manifest, Problem: err.Error()})
			return canceled.Err(ctx)
		}
		for _, f := range m.files {
			if err := check(f.HashNamed); err != nil {
				return err
			}
		}
		return nil
	})
	return all, err
}

// audit restores records that the registry lost, reports this directory's versions to the
// registry, and sweeps the directory.
func (n *Node) audit(ctx context.Context) {
	err := n.disk.heads(func(key string, h head) error {
		e := n.reg.table(key)
		switch {
		case e.Version < h.Version:
			n.log.Warn("pull: the registry lost a record; the node restores it", "table", h.Name, "version", h.Version, "registry version", e.Version)
			if err := n.reg.set(ctx, h.record, e.revision); err != nil && !errors.Is(err, ErrConflict) {
				return err
			}
		case h.diverged(e.record):
			return n.keepBranch(ctx, h)
		case e.record == h.record:
			now := time.Now()
			_ = os.Chtimes(n.disk.headFile(key), now, now) // record that the head is still the newest version
		}
		return n.reg.reportHeld(ctx, h.record)
	})
	if err == nil {
		err = n.disk.sweep(n.reg.records())
	}
	if err != nil && ctx.Err() == nil {
		n.log.Warn("pull: comparing the directory with the registry failed", "error", err)
	}
}

// keepBranch renames a table in this directory, because the registry has another history
// of it. The next audit registers the new name.
func (n *Node) keepBranch(ctx context.Context, h head) error {
	m, err := n.manifest(ctx, h.record)
	if err != nil {
		return err
	}
	r := h.record
	r.Name = fmt.Sprintf("%s (version %d of %s)", strings.ToValidUTF8(h.Name[:min(len(h.Name), 200)], ""), h.Version, h.shortName())
	m.Name = r.Name
	f, err := n.disk.Create(m.encode)
	if err != nil {
		return err
	}
	r.Manifest, r.Size = f.Hash, f.Size
	if err := n.disk.setHead(r); err != nil {
		return err
	}
	n.log.Error("pull: other nodes have another history of the table; this directory keeps its version under another name", "table", h.Name, "name", r.Name)
	return n.disk.withLock(func() error {
		if current, err := n.disk.head(keyOf(h.Name)); err != nil || current.record != h.record {
			return err
		}
		return os.Remove(n.disk.headFile(keyOf(h.Name)))
	})
}
