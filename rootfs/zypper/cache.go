package zypper

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
	"github.com/imgbuild/imgbuild/rootfs/rpm"
)

// offlineHint is the way out where the cache lacks something.
const offlineHint = "build once without --offline, with the same --package-cache"

// refresh fetches the lists of packages, once, after rpm has been told the keys that they are signed with.
func (s *Session) refresh(ctx context.Context, p place) error {
	if err := s.importKeys(ctx, p); err != nil {
		return err
	}
	if s.ready {
		return nil
	}
	lists := []string{rawDir, solvDir + "/" + p.kind}
	if err := s.fromCache(lists...); err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	if s.Offline {
		s.ready = true
		return s.listsThere()
	}
	task := s.Progress.Start("fetching package lists", 0, progress.Items)
	_, err := s.run(ctx, p, request{command: []string{"refresh"}})
	if err == nil {
		err = s.toCache(lists...)
	}
	task.Done(err)
	if err != nil {
		return fmt.Errorf("fetching package lists: %w", err)
	}
	s.ready = true
	return nil
}

// importKeys makes the keys of the repositories known to rpm, as KIWI does: that they are trusted stays in the root tree's database.
func (s *Session) importKeys(ctx context.Context, p place) error {
	if s.Own() || s.keyed[p.root] {
		return nil
	}
	for _, r := range s.Repositories.List {
		if r.KeyFile == "" {
			continue
		}
		args := []string{"rpm", "--import", r.KeyFile}
		if p.root != "" {
			args = []string{"rpm", "--root", p.root, "--import", r.KeyFile}
		}
		spec := s.base(p, args...)
		out := s.Output("rpm", nil)
		spec.Title, spec.NoNetwork, spec.Stdout, spec.Stderr = "rpm --import", true, out, out
		err := p.run(ctx, spec)
		out.Flush()
		if err != nil {
			return fmt.Errorf("importing the signing keys of repository %s: %w", r, out.Failed(err))
		}
	}
	s.keyed[p.root] = true
	return nil
}

// listsThere checks that the cache had the lists of every repository.
func (s *Session) listsThere() error {
	var lacks description.Errors
	for _, r := range s.remote() {
		if _, err := os.Stat(filepath.Join(s.Dir, rawDir, r.Alias, "repodata")); err != nil {
			lacks = append(lacks, r.Errorf(offlineHint, "the package cache lacks the package lists of repository %s", r))
		}
	}
	if len(lacks) == 0 {
		return nil
	}
	return lacks
}

// remote are the repositories that are not on this machine.
func (s *Session) remote() []repositories.Repository {
	if s.Own() {
		return nil
	}
	var list []repositories.Repository
	for _, r := range s.Repositories.List {
		if r.Local == "" {
			list = append(list, r)
		}
	}
	return list
}

// kept is where the cache keeps a part of what there is of a repository.
func (s *Session) kept(r repositories.Repository, part string) string {
	sum := sha256.Sum256([]byte(r.URI))
	return filepath.Join(s.Cache, "zypper", r.Alias+"-"+hex.EncodeToString(sum[:6]), part)
}

// fromCache puts what earlier builds have kept where zypper looks for it. zypper compares it with what the repositories have, but for Offline.
func (s *Session) fromCache(parts ...string) error {
	if s.Cache == "" {
		return nil
	}
	for _, r := range s.remote() {
		for _, part := range parts {
			if err := linkAll(s.kept(r, part), filepath.Join(s.Dir, part, r.Alias)); err != nil {
				return err
			}
		}
	}
	return nil
}

// toCache keeps what there is now, in place of what was there. Packages are added to those that are there.
func (s *Session) toCache(parts ...string) error {
	if s.Cache == "" || s.Offline {
		return nil
	}
	for _, r := range s.remote() {
		for _, part := range parts {
			from, to := filepath.Join(s.Dir, part, r.Alias), s.kept(r, part)
			if part == packagesDir {
				if err := linkAll(from, to); err != nil {
					return err
				}
				continue
			}
			if err := exchange(from, to); err != nil {
				return err
			}
		}
	}
	return nil
}

// exchange puts links to the files of a directory in the place of another one. Of two builds at once, one wins.
func exchange(from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	fresh, err := os.MkdirTemp(filepath.Dir(to), ".new-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(fresh)
	if err := linkAll(from, filepath.Join(fresh, "new")); err != nil {
		return err
	}
	if err := os.Rename(to, filepath.Join(fresh, "old")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = os.Rename(filepath.Join(fresh, "new"), to)
	if _, statErr := os.Stat(to); err != nil && statErr == nil || errors.Is(err, fs.ErrNotExist) {
		return nil // the other build's is as good; or there is nothing to keep
	}
	return err
}

// linkAll makes the files below one directory, if there is one, available below another.
func linkAll(from, to string) error {
	return filepath.WalkDir(from, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) { // another build has replaced it
			return nil
		}
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(from, name)
		if err != nil {
			return err
		}
		target := filepath.Join(to, relative)
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return err
		}
		if err := packages.LinkOrCopy(name, target); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}

// check finds the files of a transaction's packages and compares them with the lock.
func (s *Session) check(plan *packages.Transaction) error {
	type key struct{ name, version, arch string }
	files := map[key]string{}
	dir := filepath.Join(s.Dir, packagesDir)
	err := filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || !strings.HasSuffix(name, ".rpm") {
			return err
		}
		p, err := rpm.ReadFile(name)
		if err == nil {
			files[key{p.Name, p.EVR(), p.Arch}] = name
		}
		return err
	})
	if err != nil {
		return err
	}
	var lacks []string
	for i, p := range plan.Packages {
		name, ok := files[key{p.Name, p.Version, p.Arch}]
		if !ok {
			lacks = append(lacks, p.String())
			continue
		}
		if err := s.describe(&plan.Packages[i], dir, name); err != nil {
			return err
		}
	}
	switch {
	case len(lacks) > 0 && s.Offline:
		return fmt.Errorf("the package cache lacks %s; %s", strings.Join(lacks, ", "), offlineHint)
	case len(lacks) > 0:
		if r := s.remote(); len(r) == 1 {
			return r[0].Errorf("try again, or give another mirror's address", "repository %s: it can't be read: zypper has not fetched %s", r[0], strings.Join(lacks, ", "))
		}
		return fmt.Errorf("zypper has not fetched %s", strings.Join(lacks, ", "))
	}
	return packages.CheckLocked(s.Locked, plan.Packages)
}

// describe fills in what a package's file tells.
func (s *Session) describe(p *packages.Package, dir, name string) error {
	header, err := rpm.ReadFile(name)
	if err != nil {
		return err
	}
	info, err := os.Stat(name)
	if err != nil {
		return err
	}
	if p.Checksum, err = packages.Sum(name); err != nil {
		return err
	}
	relative, err := filepath.Rel(dir, name)
	if err != nil {
		return err
	}
	alias, _, _ := strings.Cut(relative, string(filepath.Separator))
	p.Repository = s.repositoryName(alias)
	p.File, p.Download, p.Installed = filepath.Base(name), info.Size(), header.Size
	return nil
}

// repositoryName is how people know a repository: by the alias that they gave it, or by its address.
func (s *Session) repositoryName(alias string) string {
	if s.Own() {
		return alias
	}
	for _, r := range s.Repositories.List {
		if r.Alias == alias && r.Description.Alias == "" {
			return r.String()
		}
	}
	return alias
}
