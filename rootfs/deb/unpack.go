package deb

import (
	"archive/tar"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/imgbuild/imgbuild/internal/ctxio"
)

// Options say how packages are unpacked.
type Options struct {
	// MergedUsr makes /bin, /sbin and /lib* links into /usr before anything else, unless the package base-files brings such links. That is how Debian
	// and Ubuntu have been installed for years.
	MergedUsr bool
	// Paths are options of dpkg that say what of the packages is not unpacked: --path-exclude and --path-include. Others are ignored.
	Paths []string
	// Unpacked is called for each package that is done; nil is nobody.
	Unpacked func()
}

// unpacking is one run of [Unpack].
type unpacking struct {
	Options
	writer   *treeWriter
	controls []*Control
	owners   map[string]*Control // of what is no directory, by name in the tree
	files    map[*Control][]string
	filter   filter
	existing *existing
	// activated are the triggers of what was unpacked.
	activated []activation
}

func newUnpacking(opts Options, packages int) *unpacking {
	return &unpacking{Options: opts, controls: make([]*Control, packages), owners: map[string]*Control{}, files: map[*Control][]string{}, existing: &existing{}}
}

// Unpack puts packages into the root tree in dir, which has no dpkg of its own yet: their files, and a database that says that they are unpacked and
// not configured. What they say should run before is not run: the caller does that in the tree, with the scripts that it finds in what is
// returned, the packages in order of their names. It is what dpkg --unpack does to a tree in which its scripts can run.
func Unpack(ctx context.Context, dir string, names []string, opts Options) (controls []*Control, err error) {
	archives := make([]*Archive, len(names))
	defer func() {
		for _, a := range archives {
			if a != nil {
				err = errors.Join(err, a.Close())
			}
		}
	}()
	u := newUnpacking(opts, len(names))
	if u.filter, err = parseFilter(opts.Paths); err != nil {
		return nil, err
	}
	if err := u.open(ctx, names, archives); err != nil {
		return nil, err
	}
	if u.writer, err = openTree(dir); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, u.writer.close()) }()
	if opts.MergedUsr {
		if err := u.mergeUsr(ctx, archives[0]); err != nil {
			return nil, fmt.Errorf("merging /usr: %w", err)
		}
	}
	if err := u.all(ctx, archives); err != nil {
		return nil, err
	}
	sorted := slices.SortedFunc(slices.Values(u.controls), func(a, b *Control) int { return cmp.Compare(a.InfoName(), b.InfoName()) })
	if err := u.writeDatabase(sorted); err != nil {
		return nil, fmt.Errorf("writing the package database: %w", err)
	}
	return sorted, nil
}

// open opens all packages and reads their control files. They are put in order of their names, with the one first that has the modes of the system's directories.
func (u *unpacking) open(ctx context.Context, names []string, archives []*Archive) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(2)
	controls := make([]*Control, len(names))
	for i, name := range names {
		group.Go(func() (err error) {
			if archives[i], err = Open(name); err != nil {
				return err
			}
			controls[i], err = archives[i].Control(groupCtx)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	of := map[*Archive]*Control{}
	for i, a := range archives {
		of[a] = controls[i]
	}
	slices.SortFunc(archives, func(a, b *Archive) int {
		if first := "base-files"; (of[a].Name() == first) != (of[b].Name() == first) {
			return map[bool]int{true: -1, false: 1}[of[a].Name() == first]
		}
		return cmp.Compare(of[a].InfoName(), of[b].InfoName())
	})
	for i, a := range archives {
		u.controls[i] = of[a]
	}
	return nil
}

// all unpacks the packages one after the other, while the next ones are decompressed.
func (u *unpacking) all(ctx context.Context, archives []*Archive) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	free := make(chan *stream, streams)
	for range streams {
		free <- newStream()
	}
	queue := make(chan *stream, streams)
	var running sync.WaitGroup
	running.Go(func() {
		defer close(queue)
		for _, a := range archives {
			select {
			case s := <-free:
				s.begin()
				running.Go(func() { s.run(ctx, a) })
				queue <- s
			case <-ctx.Done():
				return
			}
		}
	})
	defer running.Wait()
	defer cancel()
	for i, a := range archives {
		s, ok := <-queue
		if !ok {
			return context.Cause(ctx)
		}
		if err := u.one(ctx, a, u.controls[i], s); err != nil {
			return fmt.Errorf("unpacking %s: %w", u.controls[i].Name(), err)
		}
		free <- s
		if u.Unpacked != nil {
			u.Unpacked()
		}
	}
	return nil
}

// one unpacks a package.
func (u *unpacking) one(ctx context.Context, a *Archive, c *Control, s *stream) error {
	settings := conffiles(c)
	list := []string{"/."}
	_, summed := c.Files[sumsFile]
	sums := map[string]string{}
	for archive := tar.NewReader(ctxio.Reader(ctx, s)); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a.wrap(err)
		}
		name := path.Clean("/" + header.Name)[1:]
		if name == "" {
			continue
		}
		isDir := header.Typeflag == tar.TypeDir
		place := u.existing.place(name, c.Name())
		if !isDir {
			mine, err := u.claim(name, place, c)
			if err != nil {
				return err
			}
			if !mine {
				continue
			}
		}
		list = append(list, "/"+name)
		if u.filter.skips("/"+name, isDir || header.Typeflag == tar.TypeSymlink) {
			continue
		}
		if slices.Contains(settings, "/"+name) && header.Typeflag == tar.TypeReg {
			place += ".dpkg-new" // dpkg puts it in its place when it configures the package
		}
		linked := treeName(header.Linkname)
		if header.Typeflag == tar.TypeLink {
			header.Linkname = u.existing.place(linked, c.Name())
		}
		content := io.Reader(archive)
		var hash hash.Hash
		if !summed {
			hash = md5.New()
			content = io.TeeReader(archive, hash)
		}
		made, err := u.writer.put(place, header, content)
		if err != nil {
			return err
		}
		if made {
			u.activate(name, c)
		}
		switch {
		case summed:
		case header.Typeflag == tar.TypeReg:
			sums[name] = hex.EncodeToString(hash.Sum(nil))
		case header.Typeflag == tar.TypeLink:
			sums[name] = sums[linked]
		}
	}
	if err := s.rest(); err != nil {
		return a.wrap(err)
	}
	if !summed {
		c.addSums(list, sums)
	}
	u.files[c] = list
	return nil
}

// claim says whether a file, which lies at place, is to be the package's own. Of two that have it, the one wins that says it replaces the other.
func (u *unpacking) claim(name, place string, c *Control) (bool, error) {
	if other, taken := u.existing.files[place]; taken {
		return false, fmt.Errorf("/%s is in the package %s too", name, other)
	}
	if u.existing.overrides[place] {
		return false, fmt.Errorf("/%s is to have an owner and a mode of its own", name)
	}
	other, taken := u.owners[place]
	switch {
	case !taken || replaces(c, other):
	case replaces(other, c):
		return false, nil
	case other != c:
		return false, fmt.Errorf("/%s is in the package %s too", name, other.Name())
	}
	if taken && other != c {
		u.files[other] = slices.DeleteFunc(u.files[other], func(f string) bool { return f == "/"+name })
	}
	u.owners[place] = c
	return true, nil
}

// replaces reports whether a package says that it may take files of another one. The versions of its relations are not looked at: they are the
// packages of one distribution.
func replaces(c, other *Control) bool {
	if c.Name() == other.Name() {
		return c.Fields["Multi-Arch"] == "same" // the same file for two architectures
	}
	for part := range strings.SplitSeq(c.Fields["Replaces"], ",") {
		name, _, _ := strings.Cut(strings.TrimSpace(part), " ")
		name, _, _ = strings.Cut(name, ":")
		if name, _, _ = strings.Cut(name, "("); name == other.Name() {
			return true
		}
	}
	return false
}

// conffiles are the absolute paths of the package's settings.
func conffiles(c *Control) []string {
	var names []string
	for line := range strings.Lines(string(c.Files["conffiles"])) {
		// A flag such as remove-on-upgrade comes before the path (deb-conffiles(5)).
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "/") {
			names = append(names, line)
		}
	}
	return names
}

// mergeUsr makes the links of the system's directories into /usr. first is the package that may bring them.
func (u *unpacking) mergeUsr(ctx context.Context, first *Archive) (err error) {
	data, err := first.Data(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, data.Close()) }()
	for archive := tar.NewReader(data); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return first.wrap(err)
		}
		if header.Typeflag == tar.TypeSymlink && path.Clean("/"+header.Name) == "/bin" {
			return nil
		}
	}
	for _, name := range append([]string{"bin", "sbin", "lib"}, otherLibs(u.controls[0].Fields["Architecture"])...) {
		if err := u.writer.makeDir("usr/"+name, 0o755); err != nil {
			return err
		}
		if err := u.writer.link("usr/"+name, name); err != nil {
			return err
		}
	}
	return nil
}

// otherLibs are the directories besides /lib that libraries of an architecture, and of those that run on it too, lie in.
func otherLibs(arch string) []string {
	switch arch {
	case "amd64":
		return []string{"lib32", "lib64", "libx32"}
	case "i386":
		return []string{"lib64", "libx32"}
	case "mips64el", "ppc64", "sparc64":
		return []string{"lib32", "lib64"}
	case "ppc64el", "loong64":
		return []string{"lib64"}
	case "s390x":
		return []string{"lib32"}
	}
	return nil
}
