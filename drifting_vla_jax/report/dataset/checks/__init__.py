"""What can be wrong with demonstrations, one small function per fault: episodes in, findings out.

finding    Finding, Facts; the robust spread that "unlike the others" is measured in
motion     positions: not finite, jumps, leaving the workspace, standing still
rotation   quaternions: length, sign, order of the four numbers, sudden turns
gripper    opening: outside 0 .. 1, never moving, other units, upside down
agreement  the action at t beside the state at t + 1
sets       across episodes: lengths, duplicates, train beside val, instructions
pictures   images: black, frozen, the same in two cameras, of another step
table      all of them with their names, why they matter, and how bad it is
"""
