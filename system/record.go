package system

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/imgbuild/imgbuild/internal/logtext"
)

// record is the log of one build in a file beside its root tree, as KIWI keeps it.
type record struct {
	work *workplace
	file *os.File
	jobs []*job
	logs []*slog.Logger // those of the jobs before
}

// beginRecord begins the log: from now on the logs of the jobs go there too.
func beginRecord(work *workplace, jobs []*job) (*record, error) {
	file, err := os.Create(work.place("log"))
	if err != nil {
		return nil, fmt.Errorf("beginning the log of the build: %w", err)
	}
	r := &record{work: work, file: file, jobs: jobs}
	kept := logtext.New(file, logtext.Options{Level: slog.LevelDebug, Times: true})
	for _, j := range jobs {
		r.logs = append(r.logs, j.Log)
		own := slog.Handler(kept)
		if len(jobs) > 1 {
			own = kept.WithAttrs([]slog.Attr{slog.String("type", j.image.Type.Image)})
		}
		j.Log = slog.New(slog.NewMultiHandler(j.Log.Handler(), own))
		j.Log.Info("building " + j.what())
	}
	return r, nil
}

// close ends the log with how the build has ended. The log stays where there is or was a root tree, unless the user has ended the build.
func (r *record) close(ctx context.Context, err error) error {
	log := r.jobs[0].Log
	if err != nil {
		log.Debug("the build has failed: " + err.Error())
	} else {
		log.Debug("the build is done")
	}
	for i, j := range r.jobs {
		j.Log = r.logs[i]
	}
	closeErr := r.file.Close()
	place := r.work.root
	if err != nil {
		place = r.work.unpackTo()
	}
	if _, statErr := os.Lstat(place); errors.Is(statErr, fs.ErrNotExist) || ctx.Err() != nil {
		return errors.Join(err, closeErr)
	}
	name := r.work.root + ".log"
	if renameErr := os.Rename(r.file.Name(), name); renameErr != nil || closeErr != nil {
		return errors.Join(err, closeErr, renameErr)
	}
	if err != nil {
		return fmt.Errorf("%w\nthe log of the build is %s", err, name)
	}
	return nil
}
