package pacman

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// The bounds of a list of packages, in bytes: all of it, and the file about one package.
const (
	maxList = 512 << 20
	maxDesc = 4 << 20
)

// list is what a database says of its packages, in its order.
type list struct {
	name     string // of the database
	packages []entry
}

// entry is one package of a database.
type entry struct {
	packages.Package
	list   string // its database
	groups []string
}

// refresh fetches the lists of packages, once.
func (s *Session) refresh(ctx context.Context, p packages.Place) error {
	if s.refreshed {
		return nil
	}
	if err := s.listsFromCache(); err != nil {
		return err
	}
	j := job{title: "pacman -Sy", args: []string{"-Sy"}, network: !s.Offline}
	if s.Offline {
		j.only = func(sec section) bool { return sec.repo.Local != "" }
	}
	if !s.Offline || slices.ContainsFunc(s.sections, j.only) {
		task := s.Progress.Start("fetching package lists", 0, progress.Items)
		_, err := s.run(ctx, p, j)
		task.Done(err)
		if err != nil {
			return fmt.Errorf("fetching package lists: %w", err)
		}
	}
	if err := s.listsToCache(); err != nil {
		return fmt.Errorf("filling the package cache %s: %w", s.Cache, err)
	}
	if err := s.readLists(); err != nil {
		return err
	}
	s.refreshed = true
	return nil
}

// listFile is where the cache keeps the list of a repository in the network.
func (s *Session) listFile(sec section) string {
	sum := sha256.Sum256([]byte(sec.name + "\n" + strings.Join(sec.servers, "\n")))
	return filepath.Join(s.Cache, "pacman", "lists", sec.name+"-"+hex.EncodeToString(sum[:8])+".db")
}

// cached are the sections whose lists the cache has or is to have.
func (s *Session) cached() []section {
	return slices.DeleteFunc(slices.Clone(s.sections), func(sec section) bool { return sec.repo.Local != "" || s.Cache == "" && !s.Offline })
}

// listsFromCache puts the lists of an earlier build where pacman looks for them: it fetches only those that have changed since.
func (s *Session) listsFromCache() error {
	if s.Offline && s.own != "" {
		return errors.New("installing packages: the network is not to be used (--offline), and the repositories of the root tree's /etc/pacman.conf are in the network")
	}
	for _, sec := range s.cached() {
		for _, suffix := range []string{"", ".sig"} {
			err := errors.New("there is no package cache")
			if s.Cache != "" {
				err = packages.LinkOrCopy(s.listFile(sec)+suffix, filepath.Join(s.Dir, "sync", sec.name+".db"+suffix))
			}
			switch {
			case err == nil:
			case !s.Offline && errors.Is(err, fs.ErrNotExist), suffix != "" && errors.Is(err, fs.ErrNotExist):
			case s.Offline:
				return sec.repo.Errorf("build once with the network and --package-cache", "the list of packages of %s is not in the package cache, and the network is not to be used (--offline)", sec.repo)
			default:
				return fmt.Errorf("using the package cache %s: %w", s.Cache, err)
			}
		}
	}
	return nil
}

// listsToCache keeps the lists that pacman has now.
func (s *Session) listsToCache() error {
	if s.Cache == "" || s.Offline {
		return nil
	}
	for _, sec := range s.cached() {
		file := s.listFile(sec)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		for _, suffix := range []string{"", ".sig"} {
			err := replace(filepath.Join(s.Dir, "sync", sec.name+".db"+suffix), file+suffix)
			if suffix != "" && errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// replace makes a file available under another name, in the place of what is there. What is to be kept must be there.
func replace(from, to string) error {
	if _, err := os.Lstat(from); err != nil {
		return err
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return packages.LinkOrCopy(from, to)
}

// readLists reads what pacman has fetched.
func (s *Session) readLists() error {
	names := make([]string, 0, len(s.sections))
	for _, sec := range s.sections {
		names = append(names, sec.name)
	}
	if s.own != "" {
		files, err := filepath.Glob(filepath.Join(s.Dir, "sync", "*.db"))
		if err != nil {
			return err
		}
		for _, file := range files {
			names = append(names, strings.TrimSuffix(filepath.Base(file), ".db"))
		}
	}
	for _, name := range names {
		file, err := os.Open(filepath.Join(s.Dir, "sync", name+".db"))
		if err != nil {
			return fmt.Errorf("reading the list of packages of %s: %w", name, err)
		}
		entries, err := readList(file, maxList)
		if err = errors.Join(err, file.Close()); err != nil {
			return fmt.Errorf("reading the list of packages of %s: %w", name, err)
		}
		shown := name
		if i := slices.IndexFunc(s.sections, func(sec section) bool { return sec.name == name }); i >= 0 && s.sections[i].repo.Description.Alias == "" && len(s.sections[i].repo.Description.Components) == 0 {
			shown = s.sections[i].repo.String()
		}
		for i := range entries {
			entries[i].list, entries[i].Repository = name, shown
		}
		s.lists = append(s.lists, list{name, entries})
	}
	return nil
}

// readList reads a database of packages: a tar archive with a file NAME-VERSION/desc for each (repo-add(8)). What is beyond limit, in bytes, is
// an error.
func readList(r io.Reader, limit int64) ([]entry, error) {
	plain, err := decompress(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	defer plain.Close()
	archive := tar.NewReader(io.LimitReader(plain, limit))
	var entries []entry
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		if header.Typeflag != tar.TypeReg || path.Base(header.Name) != "desc" {
			continue
		}
		data, err := io.ReadAll(io.LimitReader(archive, maxDesc))
		if err != nil {
			return nil, err
		}
		e, err := parseDesc(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", header.Name, err)
		}
		entries = append(entries, e)
	}
}

// decompress recognizes what repo-add writes by its first bytes.
func decompress(r *bufio.Reader) (io.ReadCloser, error) {
	magic, err := r.Peek(6)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	switch {
	case bytes.HasPrefix(magic, []byte{0x1f, 0x8b}):
		return gzip.NewReader(r)
	case bytes.HasPrefix(magic, []byte("\x28\xb5\x2f\xfd")):
		d, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, err
		}
		return d.IOReadCloser(), nil
	case bytes.HasPrefix(magic, []byte("\xfd7zXZ\x00")):
		d, err := xz.NewReader(r)
		return io.NopCloser(d), err
	case bytes.HasPrefix(magic, []byte("BZh")):
		return io.NopCloser(bzip2.NewReader(r)), nil
	}
	return io.NopCloser(r), nil
}

// parseDesc reads what a database says of one package: %NAME% lines, each followed by its values and an empty line.
func parseDesc(data []byte) (entry, error) {
	e := entry{Package: packages.Package{Download: -1, Installed: -1}}
	field := ""
	scan := bufio.NewScanner(bytes.NewReader(data))
	scan.Buffer(nil, maxDesc)
	for scan.Scan() {
		line := strings.TrimSpace(scan.Text())
		switch {
		case line == "":
			field = ""
		case field == "" && len(line) > 2 && line[0] == '%' && line[len(line)-1] == '%':
			field = line
		case field == "%GROUPS%":
			e.groups = append(e.groups, line)
		case field == "%NAME%":
			e.Name = line
		case field == "%VERSION%":
			e.Version = line
		case field == "%ARCH%":
			e.Arch = line
		case field == "%FILENAME%":
			e.File = line
		case field == "%SHA256SUM%":
			e.Checksum = "sha256:" + strings.ToLower(line)
		case field == "%CSIZE%", field == "%ISIZE%":
			n, err := strconv.ParseInt(line, 10, 64)
			if err != nil || n < 0 {
				return entry{}, fmt.Errorf("the size %q is no number", line)
			}
			if field == "%CSIZE%" {
				e.Download = n
			} else {
				e.Installed = n
			}
		}
	}
	if err := scan.Err(); err != nil {
		return entry{}, err
	}
	if e.Name == "" || e.Version == "" || e.File == "" || strings.ContainsAny(e.File, "/\x00") || e.File[0] == '.' {
		return entry{}, errors.New("it names no package, version or file")
	}
	return e, nil
}

// lookup returns what the lists say of a package; the first list that has it counts.
func (s *Session) lookup(repository, name, version string) (entry, bool) {
	for _, l := range s.lists {
		for _, e := range l.packages {
			if e.Name == name && (version == "" || e.Version == version) && (repository == "" || l.name == repository) {
				return e, true
			}
		}
	}
	return entry{}, false
}

// members are the packages of a group, over all lists.
func (s *Session) members(group string) []string {
	var names []string
	for _, l := range s.lists {
		for _, e := range l.packages {
			if slices.Contains(e.groups, group) && !slices.Contains(names, e.Name) {
				names = append(names, e.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// names are those of all packages and groups, for suggestions.
func (s *Session) names() []string {
	seen := map[string]bool{}
	var names []string
	for _, l := range s.lists {
		for _, e := range l.packages {
			for _, name := range append([]string{e.Name}, e.groups...) {
				if !seen[name] {
					seen[name] = true
					names = append(names, name)
				}
			}
		}
	}
	return names
}
