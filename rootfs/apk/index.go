package apk

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha1"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// maxIndex bounds an index, in bytes.
const maxIndex = 512 << 20

// indexed is one package of an index.
type indexed struct {
	packages.Package
	local string // the directory of this machine that has it, "" for one in the network
}

// change is what apk says that it does, or would do, to one package.
type change struct {
	action, name, version string
}

// changeLine is a line such as "(1/3) Installing musl (1.2.5-r0)" or "( 2/30) Upgrading busybox@edge (1.36.1-r1 -> 1.36.1-r2)".
var changeLine = regexp.MustCompile(`^\(\s*\d+/\d+\) (Installing|Upgrading|Downgrading|Replacing|Reinstalling|Purging) ([^\s@(]+)(?:@\S+)? \((?:\S+ -> )?([^\s)]+)\)$`)

// parseChange understands a line of apk's output.
func parseChange(text string) (change, bool) {
	m := changeLine.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return change{}, false
	}
	return change{m[1], m[2], m[3]}, true
}

// readIndexes reads the indexes that apk has fetched, and those of the directories of this machine.
func (s *Session) readIndexes() error {
	s.index = nil
	for _, l := range s.lines {
		if l.repo.Local == "" {
			for _, name := range s.cachedIndexes(l) {
				if err := s.readIndex(filepath.Join(s.cache, name), "", repositoryName(l.repo)); err != nil {
					return err
				}
			}
			continue
		}
		below := strings.TrimPrefix(strings.TrimPrefix(l.address, l.repo.URI), "/")
		dir := filepath.Join(l.repo.Local, below, architecture(s.Arch))
		if err := s.readIndex(filepath.Join(dir, "APKINDEX.tar.gz"), dir, repositoryName(l.repo)); err != nil {
			return err
		}
	}
	return nil
}

// cachedIndexes are the names that the index of a repository in the network may have in apk's cache: with the beginning of the SHA-1 of its address (apk 2) or of
// the SHA-256 (apk 3).
func (s *Session) cachedIndexes(l line) []string {
	var names []string
	for _, address := range []string{l.address, l.repo.WithCredentials(l.address)} {
		file := address + "/" + architecture(s.Arch) + "/APKINDEX.tar.gz"
		old, now := sha1.Sum([]byte(file)), sha256.Sum256([]byte(file))
		for _, sum := range [][]byte{old[:4], now[:4]} {
			if name := fmt.Sprintf("APKINDEX.%x.tar.gz", sum); !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

func (s *Session) readIndex(file, local, repository string) error {
	in, err := os.Open(file)
	if errors.Is(err, os.ErrNotExist) {
		return nil // apk has said what is wrong, or it has another format
	}
	if err != nil {
		return err
	}
	defer in.Close()
	list, err := readIndex(in, maxIndex)
	if err != nil {
		return fmt.Errorf("reading the index %s: %w", file, err)
	}
	for _, p := range list {
		p.Repository = repository
		s.index = append(s.index, indexed{p, local})
	}
	return nil
}

// readIndex reads APKINDEX.tar.gz: gzip streams, of signatures and of an archive with the file APKINDEX, one after the other (apk-v2(5)).
func readIndex(r io.Reader, limit int64) ([]packages.Package, error) {
	plain, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, err
	}
	archive := tar.NewReader(io.LimitReader(plain, limit))
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it has no file APKINDEX")
		}
		if err != nil {
			return nil, err
		}
		if header.Name != "APKINDEX" || header.Typeflag != tar.TypeReg {
			continue
		}
		data, err := io.ReadAll(archive)
		if err != nil {
			return nil, err
		}
		var list []packages.Package
		for _, record := range records(data) {
			if p := record.plain(); p.Name != "" && p.Version != "" {
				list = append(list, p)
			}
		}
		return list, nil
	}
}

// record is one package of an index or of the database of installed packages: lines of a letter, a colon and a value.
type record [][2]string

// records reads an index or a database. An empty line ends each package.
func records(data []byte) []record {
	var list []record
	for paragraph := range bytes.SplitSeq(data, []byte("\n\n")) {
		var r record
		for text := range strings.Lines(string(paragraph)) {
			if letter, value, found := strings.Cut(strings.TrimRight(text, "\n"), ":"); found {
				r = append(r, [2]string{letter, value})
			}
		}
		if r != nil {
			list = append(list, r)
		}
	}
	return list
}

func (r record) get(letter string) string {
	for _, field := range r {
		if field[0] == letter {
			return field[1]
		}
	}
	return ""
}

// plain is the package that a record is about.
func (r record) plain() packages.Package {
	size := func(letter string) int64 {
		n, err := strconv.ParseInt(r.get(letter), 10, 64)
		if err != nil || n < 0 {
			return -1
		}
		return n
	}
	p := packages.Package{Name: r.get("P"), Version: r.get("V"), Arch: r.get("A"), Download: size("S"), Installed: size("I")}
	p.File = p.Name + "-" + p.Version + ".apk"
	return p
}

// databaseFiles are where apk keeps the installed packages.
func databaseFiles() []string { return []string{"lib/apk/db/installed", "usr/lib/apk/db/installed"} }

// findDatabase returns the path of a tree's database and what it holds; "" if there is none.
func findDatabase(tree *layers.Tree) (path string, list []record) {
	for _, name := range databaseFiles() {
		where, node, err := tree.Resolve(name)
		if err != nil || !node.IsRegular() {
			continue
		}
		data, err := tree.ReadFile(where, maxIndex)
		if err != nil {
			continue
		}
		return where, records(data)
	}
	return "", nil
}

// present are the names of a list's packages that a tree has.
func present(tree *layers.Tree, wanted []description.Package) []string {
	_, list := findDatabase(tree)
	return slices.DeleteFunc(description.Names(wanted), func(name string) bool {
		return !slices.ContainsFunc(list, func(r record) bool { return r.get("P") == name })
	})
}

// lookup returns what the indexes say of a package.
func (s *Session) lookup(name, version string) (indexed, bool) {
	i := slices.IndexFunc(s.index, func(p indexed) bool { return p.Name == name && p.Version == version })
	if i < 0 {
		return indexed{}, false
	}
	return s.index[i], true
}
