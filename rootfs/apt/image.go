package apt

import (
	"context"
	"fmt"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/rootfs/files"
)

// WriteSources writes into a tree the repositories that the image itself is to have: those with imageinclude or imageonly. Their keys go to /etc/apt/keyrings.
// Secrets stay out of the image, and so do repositories that only this machine can read; the notes say so.
func WriteSources(ctx context.Context, edit *layers.Editor, image *description.Image, source files.Source) (notes []string, err error) {
	for _, repo := range image.Repositories {
		if !repo.ImageInclude && !repo.ImageOnly {
			continue
		}
		s, err := newSource(ctx, repo, Options{Image: image, Files: source, Tree: edit.Tree()})
		if err != nil {
			return nil, err
		}
		if s.local != "" {
			notes = append(notes, fmt.Sprintf("repository %s is a directory of this machine and was not written into the image", repo.Source))
			continue
		}
		if s.user != "" || s.pass != "" {
			notes = append(notes, fmt.Sprintf("repository %s needs a user name and password, which were not written into the image; put them into its /etc/apt/auth.conf.d", s.uri))
		}
		if err := writeSource(edit, s); err != nil {
			return nil, fmt.Errorf("writing repository %s into the image: %w", s.uri, err)
		}
	}
	return notes, nil
}

func writeSource(edit *layers.Editor, s source) error {
	signedBy := ""
	if s.keys != nil {
		name := "etc/apt/keyrings/" + s.alias + ".gpg"
		if err := edit.WriteFile(name, s.keys, 0o644); err != nil {
			return err
		}
		signedBy = "/" + name
	}
	if err := edit.WriteFile("etc/apt/sources.list.d/"+s.alias+".sources", []byte(s.deb822(signedBy)), 0o644); err != nil {
		return err
	}
	if pin := s.pin(); pin != "" {
		return edit.WriteFile("etc/apt/preferences.d/"+s.alias+".pref", []byte(pin), 0o644)
	}
	return nil
}
