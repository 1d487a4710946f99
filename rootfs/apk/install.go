package apk

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// repositoryName is what the lock and reports call a repository.
func repositoryName(r repositories.Repository) string {
	if r.Description.Alias != "" {
		return r.Alias
	}
	return r.String()
}

// refresh makes a database in an empty tree, and fetches the indexes, once.
func (s *Session) refresh(ctx context.Context, p packages.Place) error {
	if s.refreshed {
		return nil
	}
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	if database, _ := findDatabase(tree); database == "" {
		if len(s.lines) == 0 {
			return s.Image.Errorf("repository", `add <repository><source path="https://dl-cdn.alpinelinux.org/alpine/latest-stable/main"/></repository>`, "there are no repositories to install packages from")
		}
		if _, err := s.run(ctx, p, job{args: []string{"add", "--initdb"}, no: true}); err != nil {
			return fmt.Errorf("making a database of packages: %w", err)
		}
	}
	if !s.Offline {
		task := s.Progress.Start("fetching package lists", 0, progress.Items)
		lines, err := s.run(ctx, p, job{args: []string{"update"}, network: true})
		if err == nil {
			err = s.unread(lines)
		}
		task.Done(err)
		if err != nil {
			return fmt.Errorf("fetching package lists: %w", err)
		}
	}
	if err := s.readIndexes(); err != nil {
		return err
	}
	s.refreshed = true
	return nil
}

// names are the packages that a set asks for. Collections are packages that need others; apk has no groups.
func (s *Session) names(set description.PackageSet) (names []string, wanted []description.Package, err error) {
	wanted = slices.Concat(set.Packages, set.Collections)
	s.LeaveOut("product", set.Products)
	ignored := description.Names(set.Ignore)
	var wrong description.Errors
	for _, p := range wanted {
		switch {
		case p.Name == "" || strings.HasPrefix(p.Name, "-") || strings.HasPrefix(p.Name, "!") || strings.ContainsAny(p.Name, " \t\n"):
			wrong = append(wrong, p.Errorf("name", "give the name of a package", "apk can't install %q", p.Name))
		case !slices.Contains(ignored, p.Name) && !slices.Contains(names, p.Name):
			names = append(names, p.Name)
		}
	}
	if wrong != nil {
		return nil, nil, wrong
	}
	return names, wanted, nil
}

// install installs a set.
func (s *Session) install(ctx context.Context, p packages.Place, set description.PackageSet) error {
	names, wanted, err := s.names(set)
	if err != nil || len(names) == 0 {
		return err
	}
	if err := s.refresh(ctx, p); err != nil {
		return err
	}
	return s.transact(ctx, p, "installing packages", wanted, append([]string{"add"}, names...))
}

// transact downloads what a command of apk would install, and runs it.
func (s *Session) transact(ctx context.Context, p packages.Place, what string, wanted []description.Package, command []string) error {
	list, err := s.resolve(ctx, p, wanted, command)
	if err != nil {
		return fmt.Errorf("resolving packages: %w", err)
	}
	if err := s.download(ctx, p, list, wanted); err != nil {
		return fmt.Errorf("downloading packages: %w", err)
	}
	plain := make([]packages.Package, len(list))
	for i, p := range list {
		plain[i] = p.Package
	}
	if err := packages.CheckLocked(s.Locked, plain); err != nil {
		return fmt.Errorf("%w (apk installs what the repositories have now, no older versions)", err)
	}
	task := s.Progress.Start(what, int64(len(list)), progress.Items)
	err = s.keepingNoLog(ctx, func() error {
		_, err := s.run(ctx, p, job{args: command, wanted: wanted, progress: task})
		return err
	})
	task.Done(err)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	s.Record(plain, false)
	return nil
}

// resolve asks apk what a command would install.
func (s *Session) resolve(ctx context.Context, p packages.Place, wanted []description.Package, command []string) ([]indexed, error) {
	lines, err := s.run(ctx, p, job{args: slices.Concat(command[:1], []string{"--simulate"}, command[1:]), wanted: wanted})
	if err != nil {
		return nil, err
	}
	var list []indexed
	for _, text := range lines {
		c, ok := parseChange(text)
		if !ok || c.action == "Purging" {
			continue
		}
		for _, set := range []description.PackageSet{s.Image.Packages.Bootstrap, s.Image.Packages.System} {
			if i := slices.IndexFunc(set.Ignore, func(p description.Package) bool { return p.Name == c.name }); i >= 0 {
				return nil, set.Ignore[i].Errorf("", "take it out of the ignored packages, or leave out what needs it", "the package %s is to be ignored, but others need it", c.name)
			}
		}
		found, ok := s.lookup(c.name, c.version)
		if !ok {
			found.Package = packages.Package{Name: c.name, Version: c.version, Arch: architecture(s.Arch), File: c.name + "-" + c.version + ".apk", Download: -1, Installed: -1}
		}
		found.Listed = slices.Contains(command[1:], c.name)
		list = append(list, found)
	}
	slices.SortFunc(list, func(a, b indexed) int { return strings.Compare(a.Name, b.Name) })
	return list, nil
}

// download puts packages into apk's cache and notes their checksums. Those of a directory of this machine stay where they are.
func (s *Session) download(ctx context.Context, p packages.Place, list []indexed, wanted []description.Package) error {
	var missing []string
	for _, e := range list {
		if file, err := s.file(e); err != nil {
			return err
		} else if file == "" {
			missing = append(missing, e.Name+"="+e.Version)
		}
	}
	if len(missing) > 0 && s.Offline {
		return fmt.Errorf("the network is not to be used (--offline), and the package cache lacks %s; build once with the network and --package-cache", packages.SomeNames(missing))
	}
	if len(missing) > 0 {
		task := s.Progress.Start("downloading packages", 0, progress.Items)
		_, err := s.run(ctx, p, job{args: append([]string{"cache", "download"}, missing...), network: true, wanted: wanted})
		task.Done(err)
		if err != nil {
			return err
		}
	}
	for i, e := range list {
		file, err := s.file(e)
		if err != nil {
			return err
		}
		if file == "" {
			return fmt.Errorf("apk has not put %s into its cache", e.File)
		}
		if list[i].Checksum, err = packages.Sum(file); err != nil {
			return err
		}
	}
	return nil
}

// file returns where a package lies, "" if it must be fetched. In the cache it is called NAME-VERSION.HASH.apk.
func (s *Session) file(e indexed) (string, error) {
	if e.local != "" {
		return filepath.Join(e.local, e.File), nil
	}
	entries, err := os.ReadDir(s.cache)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		rest, ok := strings.CutPrefix(entry.Name(), e.Name+"-"+e.Version+".")
		if hash, isPackage := strings.CutSuffix(rest, ".apk"); ok && isPackage && !strings.Contains(hash, ".") {
			return filepath.Join(s.cache, entry.Name()), nil
		}
	}
	return "", nil
}

// Simulate says what would be installed, without installing it.
func (s *Session) Simulate(ctx context.Context, set description.PackageSet) (packages.Transaction, error) {
	p, tree, err := s.find(ctx)
	if err != nil {
		return packages.Transaction{}, err
	}
	names, wanted, err := s.names(set)
	if err != nil || len(names) == 0 {
		return packages.Transaction{}, err
	}
	if err := s.refresh(ctx, p); err != nil {
		return packages.Transaction{}, err
	}
	list, err := s.resolve(ctx, p, wanted, append([]string{"add"}, names...))
	if err != nil {
		return packages.Transaction{}, fmt.Errorf("resolving packages: %w", err)
	}
	var t packages.Transaction
	_, installed := findDatabase(tree)
	for _, e := range list {
		t.Packages = append(t.Packages, e.Package)
		t.Growth += max(0, e.Installed)
		if i := slices.IndexFunc(installed, func(r record) bool { return r.get("P") == e.Name }); i >= 0 {
			t.Growth -= max(0, installed[i].plain().Installed)
		}
	}
	return t, nil
}
