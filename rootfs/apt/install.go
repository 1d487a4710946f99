package apt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/packages"
	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// refresh fetches the lists of packages, once.
func (s *session) refresh(ctx context.Context, p place) error {
	if s.refreshed {
		return nil
	}
	if err := s.listsFromCache(); err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	if s.Offline {
		if err := s.refreshOffline(ctx, p); err != nil {
			return err
		}
		s.refreshed = true
		return nil
	}
	if err := s.apt(ctx, task{place: p, title: "fetching package lists"}, "update"); err != nil {
		return fmt.Errorf("fetching package lists: %w", err)
	}
	if err := s.listsToCache(); err != nil {
		return fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
	}
	s.refreshed = true
	return nil
}

// refreshOffline makes sure that there are lists of all repositories in the network, and reads those of this machine.
func (s *session) refreshOffline(ctx context.Context, p place) error {
	have, err := os.ReadDir(filepath.Join(s.dir, "lists"))
	if err != nil {
		return err
	}
	if s.sources.own && len(have) <= 2 { // a lock and a directory
		return errors.New("installing packages: the repositories of the root tree's /etc/apt are in the network, which is not to be used (--offline)")
	}
	local := false
	for _, r := range s.Repositories.List {
		if r.Local != "" {
			local = true
			continue
		}
		_, rest, _ := strings.Cut(r.URI, "://")
		prefix := listName(strings.TrimRight(rest, "/"))
		if !r.IsList() && !slices.ContainsFunc(have, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), prefix) }) {
			return r.Errorf("build once without --offline and with the same package cache", "the package lists of repository %s are not in the package cache", r)
		}
	}
	if !local {
		return nil
	}
	if err := s.apt(ctx, task{place: p, title: "reading package lists", noNetwork: true, local: true}, "update"); err != nil {
		return fmt.Errorf("reading package lists: %w", err)
	}
	return nil
}

// listName is how apt names the files of its lists for a part of an address.
func listName(address string) string {
	return strings.NewReplacer("_", "%5f", "~", "%7e", "%", "%25", "/", "_").Replace(address)
}

// recommends is apt's option for packages that are recommended.
func recommends(wanted bool) string {
	if wanted {
		return "--install-recommends"
	}
	return "--no-install-recommends"
}

// resolve asks apt what it would install, and by how many bytes the tree would grow. The arguments are a command of apt-get and its options.
func (s *session) resolve(ctx context.Context, t task, args ...string) (downloads []download, growth int64, err error) {
	var answer strings.Builder
	t.out, t.title, t.noNetwork = &answer, "", true
	if err := s.apt(ctx, t, append([]string{args[0], "--print-uris"}, args[1:]...)...); err != nil {
		return nil, 0, fmt.Errorf("resolving packages: %w", err)
	}
	downloads = parseURIs(answer.String())
	list := make([]packages.Package, 0, len(downloads))
	for i := range downloads {
		if r, ok := s.repository(downloads[i].uri); ok {
			downloads[i].Repository = r
		}
		list = append(list, downloads[i].Package)
	}
	listed(t.list, list)
	for i := range downloads {
		downloads[i].Listed = list[i].Listed
	}
	return downloads, parseGrowth(answer.String()), packages.CheckLocked(s.Locked, list)
}

// repository is what the user calls the repository that an address lies in.
func (s *session) repository(uri string) (string, bool) {
	uri = strings.Replace(uri, "file:/", "file:///", 1)
	for _, r := range s.Repositories.List {
		if strings.HasPrefix(uri, strings.TrimRight(r.URI, "/")+"/") || strings.HasPrefix(uri, "file://"+indexDir+"/"+r.Alias+"/") {
			return cmp.Or(r.Description.Alias, r.String()), true
		}
	}
	return "", false
}

// fetch brings packages onto this machine: from the cache, or from their repositories. args is what apt was asked before.
func (s *session) fetch(ctx context.Context, t task, downloads []download, args ...string) error {
	if err := s.fromCache(downloads); err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	var lacking []string
	for _, d := range downloads {
		if _, err := os.Stat(s.path(d)); err != nil {
			lacking = append(lacking, d.Package.String())
		}
	}
	if len(lacking) == 0 {
		return nil
	}
	if s.Offline {
		return fmt.Errorf("fetching packages: the package cache lacks %s; build once without --offline and with the same package cache", strings.Join(lacking, ", "))
	}
	t.title, t.out, t.noNetwork = fmt.Sprintf("fetching %d packages", len(lacking)), nil, false
	if err := s.apt(ctx, t, append([]string{args[0], "--download-only"}, args[1:]...)...); err != nil {
		return fmt.Errorf("fetching packages: %w", err)
	}
	if err := s.toCache(downloads); err != nil {
		return fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
	}
	return nil
}

// change has apt install or bring up to date what a command of apt-get says.
func (s *session) change(ctx context.Context, t task, what string, args ...string) error {
	downloads, _, err := s.resolve(ctx, t, args...)
	if err != nil {
		return err
	}
	if len(downloads) == 0 {
		return nil
	}
	if err := s.fetch(ctx, t, downloads, args...); err != nil {
		return err
	}
	quick, err := s.quicken(ctx, downloads)
	if err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	if t.unpacker, err = s.newUnpacker(ctx, downloads, quick); err != nil {
		return fmt.Errorf("%s packages: %w", what, err)
	}
	// Each package is unpacked and set up. Nothing is fetched any more.
	t.title, t.steps, t.noNetwork = fmt.Sprintf("%s %d packages", what, len(downloads)), int64(2*len(downloads)), true
	if err := s.apt(ctx, t, args...); err != nil {
		return fmt.Errorf("%s packages: %w", what, err)
	}
	s.remember(downloads)
	return nil
}

func (s *session) remember(downloads []download) {
	for _, d := range downloads {
		s.installed[d.Name+":"+d.Arch] = d.Package
	}
}

// Installed are the packages that this session has installed.
func (s *session) Installed() []packages.Package {
	var list []packages.Package
	for _, p := range s.installed {
		list = append(list, p)
	}
	slices.SortFunc(list, func(a, b packages.Package) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Arch, b.Arch))
	})
	return list
}

// wanted are the names of a set's packages without those that are to be ignored.
func wanted(set description.PackageSet) []string {
	ignored := description.Names(set.Ignore)
	return slices.DeleteFunc(description.Names(set.Packages), func(name string) bool { return slices.Contains(ignored, name) })
}

// warn says what of a set apt knows nothing of.
func (s *session) warn(set description.PackageSet) {
	for what, list := range map[string][]description.Package{"collections": set.Collections, "products": set.Products} {
		if len(list) > 0 {
			s.Log.Warn("apt has no " + what + "; these were left out: " + strings.Join(description.Names(list), ", "))
		}
	}
}

// Install installs packages with what they depend on.
func (s *session) Install(ctx context.Context, set description.PackageSet) error {
	s.warn(set)
	names := wanted(set)
	if len(names) == 0 {
		return nil
	}
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	if p == bare {
		return s.Bootstrap(ctx, set)
	}
	if err := s.refresh(ctx, p); err != nil {
		return err
	}
	t := task{place: p, list: set.Packages, ignore: set.Ignore}
	return s.change(ctx, t, "installing", append([]string{"install", recommends(set.PlusRecommended), "--"}, names...)...)
}

// Update brings all packages up to date.
func (s *session) Update(ctx context.Context) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	if p == bare {
		return errors.New("updating packages: the root tree has no packages of dpkg")
	}
	if err := s.refresh(ctx, p); err != nil {
		return err
	}
	return s.change(ctx, task{place: p}, "updating", "dist-upgrade")
}

// Uninstall removes packages with what depends on them and with what was only installed for them.
func (s *session) Uninstall(ctx context.Context, list []description.Package) error {
	p, err := s.place(ctx)
	if err != nil {
		return err
	}
	args := append([]string{"remove", "--auto-remove", "--"}, description.Names(list)...)
	if err := s.apt(ctx, task{place: p, title: "removing packages", list: list, noNetwork: true}, args...); err != nil {
		return fmt.Errorf("removing packages: %w", err)
	}
	return nil
}

// Delete removes packages by force: nothing else, whatever depends on them.
func (s *session) Delete(ctx context.Context, list []description.Package) error {
	args := append([]string{"dpkg"}, s.dpkgOptions()...)
	args = append(args, "--remove", "--force-remove-reinstreq", "--force-remove-essential", "--force-remove-protected", "--force-depends", "--")
	if err := s.dpkg(ctx, task{title: "deleting packages"}, s.spec(task{noNetwork: true}, append(args, description.Names(list)...)...)); err != nil {
		return fmt.Errorf("deleting packages: %w", err)
	}
	return nil
}

// dpkg runs the tree's own dpkg and shows what it does.
func (s *session) dpkg(ctx context.Context, t task, spec sandbox.Spec) (err error) {
	steps := s.start(t)
	defer func() { steps.Done(err) }()
	out := packages.NewOutput(s.Log, "dpkg", s.Repositories.Secrets, func(line string) {
		if strings.HasPrefix(line, "Setting up ") {
			steps.Add(1)
		}
	})
	spec.Title, spec.Stdout, spec.Stderr = "dpkg", out, out
	err = s.Inside(ctx, spec)
	out.Flush()
	if err != nil {
		return s.explain(ctx, err, out, t)
	}
	return nil
}
