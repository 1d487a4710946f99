package repositories

import (
	"fmt"
	"slices"

	"github.com/imgbuild/imgbuild/rootfs/sandbox"
)

// ForImage writes the repositories that the image itself is to have, each by the function write. Those that only this machine can read stay out of the image, and so
// do secrets, which belong into the file or directory that secrets names; the notes say so.
func (s *Set) ForImage(secrets string, write func(r Repository) (notes []string, err error)) (notes []string, err error) {
	for _, r := range s.Image {
		switch {
		case r.Local != "":
			notes = append(notes, fmt.Sprintf("repository %s is a directory of this machine and was not written into the image", r))
			continue
		case r.User != "" || r.Password != "":
			notes = append(notes, fmt.Sprintf("repository %s needs a user name and password, which were not written into the image; put them into its %s", r, secrets))
		}
		more, err := write(r)
		if err != nil {
			return nil, fmt.Errorf("writing repository %s into the image: %w", r, err)
		}
		notes = append(notes, more...)
	}
	return notes, nil
}

// ArmoredKeys are the keys of a repository as its KeyFile has them, nil if there are none.
func (s *Set) ArmoredKeys(r Repository) []byte {
	i := slices.IndexFunc(s.Files, func(f sandbox.File) bool { return f.Path == r.KeyFile })
	if r.KeyFile == "" || i < 0 {
		return nil
	}
	return s.Files[i].Data
}
