package apk

import (
	"errors"
	"io/fs"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/repositories"
)

// Where an image has its repositories and keys.
const (
	imageRepos = "etc/apk/repositories"
	imageKeys  = "etc/apk/keys"
)

// WriteRepositories writes into a tree the repositories that the image itself is to have: as lines of /etc/apk/repositories, with their keys. Secrets stay out of
// the image, and so do repositories that only this machine can read; the notes say so.
func WriteRepositories(edit *layers.Editor, set *repositories.Set, change repositories.Change) (notes []string, err error) {
	return set.ForImage("addresses in /"+imageRepos, func(r repositories.Repository) ([]string, error) { return nil, writeRepository(edit, r, change) })
}

func writeRepository(edit *layers.Editor, r repositories.Repository, change repositories.Change) error {
	data, err := edit.Tree().ReadFile(imageRepos, 1<<20)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	text := string(data)
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	own, err := change(r, r.Alias+".list", []byte(strings.Join(repositoryLines(r, strings.TrimPrefix(r.URI, "file://")), "\n")+"\n"))
	if err != nil {
		return err
	}
	for line := range strings.SplitSeq(strings.TrimRight(string(own), "\n"), "\n") {
		if !strings.Contains("\n"+text, "\n"+line+"\n") {
			text += line + "\n"
		}
	}
	if err := edit.WriteFile(imageRepos, []byte(text), 0o644); err != nil {
		return err
	}
	for _, key := range r.NamedKeys {
		if err := edit.WriteFile(imageKeys+"/"+key.Name, key.Data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
