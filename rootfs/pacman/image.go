package pacman

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// Where an image has its repositories and keyrings.
const (
	imageConf    = "etc/pacman.conf"
	imageRepos   = "etc/pacman.d"
	imageKeys    = "usr/share/pacman/keyrings"
	includeRepos = "Include = /" + imageRepos + "/*.repo"
)

// WriteRepositories writes into a tree the repositories that the image itself is to have. A section that /etc/pacman.conf has already gets the address as its
// first server; others go to /etc/pacman.d/NAME.repo, which /etc/pacman.conf then includes. Keys go where pacman-key --populate finds them. Secrets stay out of the
// image, and so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	return set.ForImage("addresses in /etc/pacman.d", func(r repositories.Repository) ([]string, error) { return writeRepository(edit, r, change) })
}

func writeRepository(edit *layers.Editor, r repositories.Repository, change repositories.Change) (notes []string, err error) {
	names, err := databases(r)
	if err != nil {
		return nil, err
	}
	conf, err := edit.Tree().ReadFile(imageConf, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	text := string(conf)
	if text == "" {
		text = "[options]\nHoldPkg = pacman glibc\nArchitecture = auto\n"
	}
	var file strings.Builder
	for _, name := range names {
		section := "[" + name + "]\nServer = " + r.URI + "\n"
		_, there := insertLines(text, name, "")
		if d := r.Description; !there && (r.Keys != nil || d.PackageGPGCheck != description.Unset || d.RepoGPGCheck != description.Unset) {
			section += "SigLevel = " + sigLevel(r, true) + "\n" // else what the image's /etc/pacman.conf says for all
		}
		data, err := change(r, name+".repo", []byte(section))
		if err != nil {
			return nil, err
		}
		if there {
			text, _ = insertLines(text, name, strings.TrimPrefix(string(data), "["+name+"]\n"))
			continue
		}
		file.Write(data)
	}
	if file.Len() > 0 {
		if !strings.Contains(text, includeRepos+"\n") {
			text = strings.TrimRight(text, "\n") + "\n\n" + includeRepos + "\n"
		}
		if err := edit.WriteFile(imageRepos+"/"+r.Alias+".repo", []byte(file.String()), 0o644); err != nil {
			return nil, err
		}
	}
	if text != string(conf) {
		if err := edit.WriteFile(imageConf, []byte(text), 0o644); err != nil {
			return nil, err
		}
	}
	return writeKeys(edit, r)
}

// insertLines puts lines at the beginning of a section that a configuration has already, but for those that it has.
func insertLines(conf, name, lines string) (changed string, there bool) {
	var out strings.Builder
	for old := range strings.Lines(conf) {
		out.WriteString(old)
		if strings.TrimSpace(old) != "["+name+"]" || there {
			continue
		}
		there = true
		if !strings.HasSuffix(old, "\n") {
			out.WriteString("\n")
		}
		for line := range strings.Lines(lines) {
			if !strings.Contains(conf, line) {
				out.WriteString(line)
			}
		}
	}
	return out.String(), there
}

// writeKeys puts a repository's keys where pacman-key --populate looks for them.
func writeKeys(edit *layers.Editor, r repositories.Repository) (notes []string, err error) {
	if r.Keys == nil {
		return nil, nil
	}
	fingerprints, err := repositories.Fingerprints(r.Keys)
	if err != nil {
		return nil, err
	}
	trusted := ""
	for _, f := range fingerprints {
		trusted += f + ":4:\n" // fully trusted, in the words of gpg --import-ownertrust
	}
	for name, data := range map[string][]byte{".gpg": r.Keys, "-trusted": []byte(trusted)} {
		if err := edit.WriteFile(imageKeys+"/"+r.Alias+name, data, 0o644); err != nil {
			return nil, err
		}
	}
	return []string{fmt.Sprintf("the keys of %s are in the image's /%s; let config.sh or the first boot run: pacman-key --init && pacman-key --populate %s", r, imageKeys, r.Alias)}, nil
}
