package main

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/remora-backup/remora/internal/remora"
)

// TestS11NoStepWaitsForAStorageThatNeverAnswers: a disk of a network that is away hangs whoever asks it, and hears of no
// context. What is on its way back must come to its end all the same.
func TestS11NoStepWaitsForAStorageThatNeverAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := 0
		answer := make(chan error)
		g := &gate{log: quiet, look: func(context.Context) error {
			looks++
			return <-answer
		}}
		pass := func() (time.Duration, error) {
			began := time.Now()
			err := g.pass(t.Context())
			return time.Since(began), err
		}
		for range 3 { // nobody has looked for long: the first step waits, and none of those after it
			first, err := pass()
			require.NoError(t, err)
			require.Equal(t, ownerTime, first)
			for range 5 {
				time.Sleep(ownerAge)
				took, err := pass()
				require.NoError(t, err)
				require.Zero(t, took)
			}
			time.Sleep(ownerLimit)
		}
		require.Equal(t, 1, looks, "it still waits for that answer")

		answer <- remora.Fail(remora.Fenced, "act", "", "", "it is another's")
		synctest.Wait()
		go func() { answer <- errors.New("away") }()
		_, err := pass()
		require.Equal(t, remora.Fenced, remora.KindOf(err), "while nobody can tell, it is as it was")
		go func() { answer <- nil }()
		_, err = pass() // whoever was kept back asks each time
		require.NoError(t, err)
	})
}
