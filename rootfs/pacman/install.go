package pacman

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// transaction is what pacman is to do.
type transaction struct {
	what      string                // for the user
	operation string                // -S or -Su
	names     []string              // packages, groups taken apart
	wanted    []description.Package // to point errors at
}

// install installs a set.
func (s *Session) install(ctx context.Context, p packages.Place, set description.PackageSet) error {
	tree, err := s.Tree(ctx)
	if err != nil {
		return err
	}
	return s.within(ctx, func() error {
		if err := s.refresh(ctx, p); err != nil {
			return err
		}
		t, err := s.transaction(set)
		if err != nil || len(t.names) == 0 {
			return err
		}
		return s.transact(ctx, p, tree, t)
	})
}

// transaction says what a set asks for. Collections are pacman's groups, or packages as in KIWI.
func (s *Session) transaction(set description.PackageSet) (transaction, error) {
	t := transaction{what: "installing", operation: "-S", wanted: slices.Concat(set.Packages, set.Collections)}
	s.LeaveOut("product", set.Products)
	ignored := description.Names(set.Ignore)
	for _, name := range description.Names(t.wanted) {
		expanded := []string{name}
		if _, found := s.lookup("", name, ""); !found {
			if members := s.members(name); members != nil {
				expanded = members
			}
		}
		for _, name := range expanded {
			if !slices.Contains(ignored, name) && !slices.Contains(t.names, name) {
				t.names = append(t.names, name)
			}
		}
	}
	return t, s.checkNames(t.wanted)
}

// checkNames refuses names that pacman would take for something else.
func (s *Session) checkNames(wanted []description.Package) error {
	var wrong description.Errors
	for _, p := range wanted {
		if p.Name == "" || strings.HasPrefix(p.Name, "-") || strings.ContainsAny(p.Name, " \t\n") {
			wrong = append(wrong, p.Errorf("name", "give the name of a package or group", "pacman can't install %q", p.Name))
		}
	}
	if len(wrong) > 0 {
		return wrong
	}
	return nil
}

// arguments are those of pacman for a transaction, with further options.
func (t transaction) arguments(options ...string) []string {
	args := append([]string{t.operation}, options...)
	if len(t.names) > 0 {
		args = append(append(args, "--needed", "--"), t.names...)
	}
	return args
}

// transact downloads what a transaction needs and installs it.
func (s *Session) transact(ctx context.Context, p packages.Place, tree *layers.Tree, t transaction) error {
	if err := s.refresh(ctx, p); err != nil {
		return err
	}
	entries, err := s.resolve(ctx, p, t)
	if err != nil || len(entries) == 0 {
		return err
	}
	if err := packages.CheckLocked(s.Locked, plain(entries)); err != nil {
		return fmt.Errorf("%w (pacman installs what the repositories have now, no older versions)", err)
	}
	if err := s.download(ctx, p, t, entries); err != nil {
		return err
	}
	what := fmt.Sprintf("%s %d packages", t.what, len(entries))
	if strings.HasSuffix(t.what, " packages") {
		what = t.what
	}
	task := s.Progress.Start(what, int64(len(entries)), progress.Items)
	_, err = s.run(ctx, p, job{
		title: "pacman " + t.operation, args: t.arguments(), wanted: t.wanted, progress: task,
		step: func(line string) bool {
			return strings.HasPrefix(line, "installing ") || strings.HasPrefix(line, "upgrading ") || strings.HasPrefix(line, "reinstalling ")
		},
	})
	if err == nil {
		err = s.fixTimes(ctx)
	}
	task.Done(err)
	if err != nil {
		return fmt.Errorf("installing packages: %w", err)
	}
	s.Record(plain(entries), false)
	return nil
}

func names(entries []entry) []string {
	var list []string
	for _, e := range entries {
		list = append(list, e.String())
	}
	return list
}

func plain(entries []entry) []packages.Package {
	list := make([]packages.Package, len(entries))
	for i, e := range entries {
		list[i] = e.Package
	}
	return list
}

// resolve asks pacman what a transaction would install.
func (s *Session) resolve(ctx context.Context, p packages.Place, t transaction) ([]entry, error) {
	answer, err := s.run(ctx, p, job{title: "pacman " + t.operation + "p", args: t.arguments("--print-format", "%r %n %v"), wanted: t.wanted})
	if err != nil {
		return nil, fmt.Errorf("resolving packages: %w", err)
	}
	var entries []entry
	for line := range strings.Lines(answer) {
		words := strings.Fields(line)
		if len(words) != 3 {
			continue // what it says besides
		}
		if e, ok := s.lookup(words[0], words[1], words[2]); ok {
			e.Listed = slices.Contains(t.names, e.Name)
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	return entries, nil
}

// download puts the packages of a transaction and their signatures into the session's cache, from the cache of earlier builds or from the repositories, and
// compares them with what their lists say.
func (s *Session) download(ctx context.Context, p packages.Place, t transaction, entries []entry) error {
	missing, err := s.fromCache(entries)
	if err != nil {
		return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
	}
	if s.Offline {
		missing = slices.DeleteFunc(missing, func(e entry) bool { return s.isLocal(e) })
		if len(missing) > 0 {
			return fmt.Errorf("installing packages: the network is not to be used (--offline), and the package cache lacks %s; build once with the network and --package-cache", packages.SomeNames(names(missing)))
		}
	}
	task := s.Progress.Start("downloading packages", int64(len(missing)), progress.Items)
	_, err = s.run(ctx, p, job{
		title: "pacman " + t.operation + "w", args: t.arguments("-w"), network: !s.Offline, wanted: t.wanted, progress: task,
		step: func(line string) bool { return strings.HasSuffix(line, " downloading...") },
	})
	task.Done(err)
	if err != nil {
		return fmt.Errorf("downloading packages: %w", err)
	}
	for i, e := range entries {
		sum, err := packages.Sum(filepath.Join(s.Dir, "cache", e.File))
		if err != nil {
			return fmt.Errorf("downloading packages: %w", err)
		}
		if e.Checksum != "" && e.Checksum != sum {
			return fmt.Errorf("downloading packages: %s has the checksum %s, and %s in its repository's list", e.File, sum, e.Checksum)
		}
		entries[i].Checksum = sum
	}
	if err := packages.CheckLocked(s.Locked, plain(entries)); err != nil {
		return err
	}
	if err := s.toCache(entries); err != nil {
		return fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
	}
	return nil
}

// isLocal reports whether a package comes from a directory of this machine.
func (s *Session) isLocal(e entry) bool {
	return slices.ContainsFunc(s.sections, func(sec section) bool { return sec.name == e.list && sec.repo.Local != "" })
}

// cacheFile is where the cache of earlier builds keeps a package; its signature lies beside it.
func (s *Session) cacheFile(e entry) string {
	return filepath.Join(s.Cache, "pacman", "packages", strings.TrimPrefix(e.Checksum, "sha256:"))
}

// fromCache puts packages of earlier builds where pacman looks for them, and returns those that are not there. A damaged one is removed.
func (s *Session) fromCache(entries []entry) (missing []entry, err error) {
	for _, e := range entries {
		there, err := s.oneFromCache(e)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, e)
		}
	}
	return missing, nil
}

func (s *Session) oneFromCache(e entry) (there bool, err error) {
	file := filepath.Join(s.Dir, "cache", e.File)
	if _, err := os.Lstat(file); err == nil {
		return true, nil // downloaded by this session
	}
	if s.Cache == "" || e.Checksum == "" {
		return false, nil
	}
	cached := s.cacheFile(e)
	sum, err := packages.Sum(cached)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case sum != e.Checksum:
		s.Log.Warn("a file of the package cache is damaged; it is fetched again", "file", cached)
		if err := os.Remove(cached); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
		return false, nil
	}
	if err := packages.LinkOrCopy(cached+".sig", file+".sig"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	return true, packages.LinkOrCopy(cached, file)
}

// toCache keeps packages for later builds.
func (s *Session) toCache(entries []entry) error {
	if s.Cache == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(s.Cache, "pacman", "packages"), 0o755); err != nil {
		return err
	}
	for _, e := range entries {
		if s.isLocal(e) {
			continue
		}
		cached, file := s.cacheFile(e), filepath.Join(s.Dir, "cache", e.File)
		if err := replace(file+".sig", cached+".sig"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := packages.LinkOrCopy(file, cached); err != nil {
			return err
		}
	}
	return nil
}

// fixTimes makes the database say that packages were installed at SOURCE_DATE_EPOCH, where that is set.
func (s *Session) fixTimes(ctx context.Context) error {
	const script = `test -n "$SOURCE_DATE_EPOCH" || exit 0
cd "$1" && for file in */desc; do
	test -f "$file" && ! test -L "$file" && sed -i "/^%INSTALLDATE%\$/{n;s/^[0-9]*\$/$SOURCE_DATE_EPOCH/}" "$file"
done
exit 0
`
	return s.tool(ctx, "sh", "-c", script, "sh", packages.TargetDir+databaseDir+"/local")
}

// Simulate says what would be installed, without installing it.
func (s *Session) Simulate(ctx context.Context, set description.PackageSet) (packages.Transaction, error) {
	p, tree, err := s.find(ctx)
	if err != nil {
		return packages.Transaction{}, err
	}
	var result packages.Transaction
	err = s.within(ctx, func() error {
		if err := s.refresh(ctx, p); err != nil {
			return err
		}
		t, err := s.transaction(set)
		if err != nil || len(t.names) == 0 {
			return err
		}
		entries, err := s.resolve(ctx, p, t)
		result.Packages = plain(entries)
		return err
	})
	if err != nil {
		return packages.Transaction{}, err
	}
	there := localVersions(tree)
	for _, e := range result.Packages {
		result.Growth += max(0, e.Installed)
		if version := there[e.Name]; version != "" {
			result.Growth -= localSize(tree, e.Name+"-"+version)
		}
	}
	return result, nil
}

// localSize is how many bytes an installed package has, 0 if its database doesn't say.
func localSize(tree *layers.Tree, name string) int64 {
	data, err := tree.ReadFile(databaseDir[1:]+"/local/"+name+"/desc", maxDesc)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(data), "%SIZE%\n")
	size, _, _ := strings.Cut(rest, "\n")
	n, err := strconv.ParseInt(size, 10, 64)
	if err != nil {
		return 0
	}
	return n
}
